/* SPDX-License-Identifier: MIT */
/*
 * field_dpdk.c - DPDK's rte_rcu_qsbr with its defer queue, one queue per worker, which is its owner's alone.
 * Arguments as of field_one.c.
 */
#define ALLOW_EXPERIMENTAL_API
#include <rte_rcu_qsbr.h>

#include "dpdk_start.h"
#include "field_loop.h"

#define QUEUE 65536         /* pointers */
#define RECLAIM FIELD_BLOCK /* from so many on an enqueue reclaims, up to as many: as weir's magazines */

static struct rte_rcu_qsbr *readers;
static struct rte_rcu_qsbr_dq *queues[FIELD_THREADS_MAX];
static __thread struct rte_rcu_qsbr_dq *queue;
static __thread unsigned self;

static bool start(char *program)
{
    struct machine machine = {.cpus = 0};
    machine_cpus(&machine);
    return dpdk_start(program, machine.cpu[0], 256);
}

static void free_elements(void *arg, void *elements, unsigned n)
{
    void **objects = elements;
    (void)arg;
    for (unsigned i = 0; i < n; i++)
        field_free(objects[i]);
}

static bool open_queues(const struct field_setting *setting)
{
    unsigned threads = setting->threads + setting->readers;
    readers = aligned_alloc(RTE_CACHE_LINE_SIZE, rte_rcu_qsbr_get_memsize(threads));
    if (readers == NULL || rte_rcu_qsbr_init(readers, threads) != 0)
        return false;
    for (unsigned i = 0; i < setting->threads; i++) {
        char name[16];
        snprintf(name, sizeof name, "worker %u", i);
        const struct rte_rcu_qsbr_dq_parameters parameters = {.name = name,
                                                              .flags = RTE_RCU_QSBR_DQ_MT_UNSAFE,
                                                              .size = QUEUE,
                                                              .esize = sizeof(void *),
                                                              .trigger_reclaim_limit = RECLAIM,
                                                              .max_reclaim_size = RECLAIM,
                                                              .free_fn = free_elements,
                                                              .v = readers};
        queues[i] = rte_rcu_qsbr_dq_create(&parameters);
        if (queues[i] == NULL) {
            fprintf(stderr, "DPDK makes no defer queue: %s\n", rte_strerror(rte_errno));
            return false;
        }
    }
    return true;
}

static bool enter(unsigned number)
{
    self = number;
    queue = number < field_setting.threads ? queues[number] : NULL;
    if (rte_rcu_qsbr_thread_register(readers, number) != 0)
        return false;
    rte_rcu_qsbr_thread_online(readers, number);
    return true;
}

static void leave(unsigned number)
{
    rte_rcu_qsbr_thread_unregister(readers, number);
}

ALWAYS_INLINE void inlined_quiescent(void)
{
    rte_rcu_qsbr_quiescent(readers, self);
}

static void quiescent(void)
{
    inlined_quiescent();
}

static void offline(void)
{
    rte_rcu_qsbr_thread_offline(readers, self);
}

static void online(void)
{
    rte_rcu_qsbr_thread_online(readers, self);
}

/* The queue is full: they wait for readers, of which this thread is one. */
static __attribute__((noinline, cold)) void hand_over_again(void *object)
{
    do {
        inlined_quiescent();
        sched_yield();
    } while (rte_rcu_qsbr_dq_enqueue(queue, &object) != 0);
}

ALWAYS_INLINE void hand_over(void *object, uint64_t number)
{
    (void)number;
    if (weir_unlikely(rte_rcu_qsbr_dq_enqueue(queue, &object) != 0))
        hand_over_again(object);
}

static void work(struct field_worker *worker)
{
    field_loop(worker, field_malloc, hand_over, inlined_quiescent);
}

static void finish(void)
{
    unsigned freed, pending, available;
    for (;;) {
        rte_rcu_qsbr_dq_reclaim(queue, QUEUE, &freed, &pending, &available);
        if (pending == 0)
            break;
        sched_yield();
    }
}

int main(int argc, char **argv)
{
    static const struct field_contender contender = {
        .id = "dpdk",
        .open = open_queues,
        .enter = enter,
        .leave = leave,
        .quiescent = quiescent,
        .offline = offline,
        .online = online,
        .work = work,
        .finish = finish,
    };
    if (argc <= FIELD_ARGUMENTS || !allocator_is_in_use(argv[2]) || !start(argv[0]))
        return 1;
    const struct field_setting setting = field_setting_of(argv + 3);
    return field_serve(&contender, &setting) ? 0 : 1;
}
