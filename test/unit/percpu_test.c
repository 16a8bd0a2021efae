/* SPDX-License-Identifier: MIT */
/* weir/percpu.h, in whichever mode the environment asks for: slots against a model, choosing the mode. */
#include "fixtures.h"
#include "weir/cache.h"
#include "weir/free_rcu.h"
#include "weir/page_cache.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "weir_test.h"

enum { MOST = 130 };

static struct weir_percpu_slot *slots;
static unsigned cpu, other_cpu;

/* Stays on one CPU, with empty slots. */
static void start(void)
{
    cpu = fixture_stay(&other_cpu);
    slots = weir_percpu_alloc();
    cr_assert_not_null(slots);
    weir_percpu_slots_init(slots);
}

static struct weir_magazine *magazine_of(size_t capacity)
{
    size_t bytes = WEIR_MAGAZINE_BYTES(capacity);
    void *memory = malloc(bytes);
    cr_assert_not_null(memory);
    return weir_magazine_init(memory, bytes);
}

/* Puts a magazine for `capacity` pointers into the slot. */
static struct weir_magazine *install(size_t capacity)
{
    struct weir_magazine *magazine = magazine_of(capacity), *old = NULL;
    cr_assert(weir_percpu_exchange(slots, magazine, &old));
    cr_assert_eq(old, &weir_percpu_none);
    return magazine;
}

static void finish(void)
{
    for (unsigned i = 0; i < weir_percpu_nr_cpus(); i++) {
        struct weir_magazine *magazine = weir_percpu_detach(slots, i);
        cr_assert_not_null(magazine);
        if (magazine != &weir_percpu_none)
            free(magazine);
    }
    weir_percpu_free(slots);
}

static void *object(size_t number)
{
    return (void *)(0x10000 + number * 16);
}

static bool environment_forbids_rseq(void)
{
    const char *tunables = getenv("GLIBC_TUNABLES");
    return tunables != NULL && strstr(tunables, "rseq=0") != NULL;
}

/* Standard error goes into `text` while it is on. */
static int stderr_saved;
static FILE *stderr_file;

static void catch_stderr(void)
{
    stderr_file = tmpfile();
    cr_assert_not_null(stderr_file);
    stderr_saved = dup(2);
    dup2(fileno(stderr_file), 2);
}

static unsigned caught_lines(char *text, size_t size)
{
    unsigned lines = 0;
    dup2(stderr_saved, 2);
    rewind(stderr_file);
    size_t n = fread(text, 1, size - 1, stderr_file);
    text[n] = '\0';
    for (const char *c = text; *c; c++)
        lines += *c == '\n';
    return lines;
}

/* --- choosing the mode --- */

Test(percpu, says_its_mode_and_why)
{
    const char *reason = weir_percpu_reason(), *forced = getenv("WEIR_PERCPU");
    enum weir_percpu_mode mode = weir_percpu_mode();
    cr_assert(mode == WEIR_PERCPU_LOCK || mode == WEIR_PERCPU_RSEQ);
    cr_assert_not_null(reason);
    cr_assert_eq(strncmp(reason, mode == WEIR_PERCPU_LOCK ? "lock: " : "rseq: ", 6), 0, "%s", reason);
    cr_assert_gt(strlen(reason), 10u);
    cr_assert_eq(weir_percpu_init(), 0);
    if (forced) {
        cr_assert_eq(mode, strcmp(forced, "lock") == 0 ? WEIR_PERCPU_LOCK : WEIR_PERCPU_RSEQ);
        cr_assert_not_null(strstr(reason, "WEIR_PERCPU"));
    } else if (environment_forbids_rseq() || !WEIR__RSEQ) {
        cr_assert_eq(mode, WEIR_PERCPU_LOCK);
    }
}

Test(percpu, mode_is_chosen_once)
{
    enum weir_percpu_mode mode = weir_percpu_mode();
    setenv("WEIR_PERCPU", mode == WEIR_PERCPU_LOCK ? "bogus" : "lock", 1);
    cr_assert_eq(weir_percpu_mode(), mode);
    cr_assert_eq(weir_percpu_init(), 0);
}

Test(percpu, lock_can_be_asked_for)
{
    setenv("WEIR_PERCPU", "lock", 1);
    cr_assert_eq(weir_percpu_init(), 0);
    cr_assert_eq(weir_percpu_mode(), WEIR_PERCPU_LOCK);
}

Test(percpu, asking_for_nothing_is_not_asking)
{
    setenv("WEIR_PERCPU", "", 1);
    cr_assert_eq(weir_percpu_init(), 0);
    cr_assert_null(strstr(weir_percpu_reason(), "WEIR_PERCPU"));
}

Test(percpu, rseq_that_is_asked_for_and_does_not_work_is_an_error_of_one_line)
{
    char text[500];
    setenv("WEIR_PERCPU", "rseq", 1);
    catch_stderr();
    int error = weir_percpu_init();
    weir_percpu_init();
    unsigned lines = caught_lines(text, sizeof text);
    if (error == 0) {
        cr_assert_not(environment_forbids_rseq());
        cr_assert_eq(weir_percpu_mode(), WEIR_PERCPU_RSEQ);
        cr_assert_eq(lines, 0u, "%s", text);
        return;
    }
    cr_assert_eq(error, -ENOTSUP);
    cr_assert_eq(lines, 1u, "%s", text);
    cr_assert_not_null(strstr(text, "WEIR_PERCPU"));
    cr_assert_null(weir_percpu_alloc());
}

Test(percpu, unknown_value_fails_every_create_and_is_named_in_one_line)
{
    static const struct weir_cache_ops ops = {backend_alloc, backend_free};
    struct weir_cache_config config = WEIR_CACHE_CONFIG_INIT;
    struct weir_cache *cache = (void *)&config;
    struct weir_reclaimer *reclaimer = (void *)&config;
    struct weir_page_cache *pages = (void *)&config;
    char text[500];
    config.ops = &ops;

    setenv("WEIR_PERCPU", "bogus", 1);
    catch_stderr();
    int inits = weir_percpu_init(), caches = weir_cache_create(&cache, &config);
    int reclaimers = weir_reclaimer_create(&reclaimer, NULL);
    int page_caches = weir_page_cache_create(&pages, NULL);
    void *memory = weir_percpu_alloc();
    unsigned lines = caught_lines(text, sizeof text);
    cr_assert_eq(inits, -EINVAL);
    cr_assert_eq(caches, -EINVAL);
    cr_assert_eq(reclaimers, -EINVAL);
    cr_assert_eq(page_caches, -EINVAL);
    cr_assert_null(cache);
    cr_assert_null(reclaimer);
    cr_assert_null(pages);
    cr_assert_null(memory);
    cr_assert_eq(lines, 1u, "%s", text);
    cr_assert_not_null(strstr(text, "bogus"));
}

Test(percpu, cpu_can_be_asked_for_before_anything_is_set_up)
{
    unsigned first = weir_percpu_cpu();
    cr_assert_lt(first, weir_percpu_nr_cpus());
}

Test(percpu, cpu_numbers_are_below_nr_cpus)
{
    unsigned cpus[CPU_SETSIZE], n = fixture_cpus(cpus, CPU_SETSIZE);
    for (unsigned i = 0; i < n; i++) {
        cr_assert_lt(cpus[i], weir_percpu_nr_cpus());
        fixture_pin(cpus[i]);
        cr_assert_eq(weir_percpu_cpu(), cpus[i]);
    }
}

/* --- one CPU's slot --- */

Test(percpu, empty_slots_give_and_take_nothing)
{
    void *two[2] = {object(1), object(2)};
    start();
    cr_assert_null(weir_percpu_get(slots));
    cr_assert_not(weir_percpu_put(slots, object(1)));
    cr_assert_eq(weir_percpu_get_n(slots, 2, two), 0u);
    cr_assert_eq(weir_percpu_put_n(slots, 2, two), 0u);
    cr_assert_eq(two[0], object(1));
    cr_assert_eq(two[1], object(2));
    for (unsigned i = 0; i < weir_percpu_nr_cpus(); i++) {
        cr_assert_eq(weir_percpu_count(slots, i), 0u);
        cr_assert_eq(weir_percpu_detach(slots, i), &weir_percpu_none);
    }
    weir_percpu_settle();
    weir_percpu_free(slots);
    weir_percpu_free(NULL);
}

Test(percpu, none_is_never_written)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    char *start_of_page = (char *)((uintptr_t)&weir_percpu_none & ~(page - 1));
    void *some[3] = {object(1), object(2), object(3)};
    size_t moved = 0;
    start();
    /* A write of what is there already would not show; a fault does. */
    cr_assert_eq(mprotect(start_of_page, page, PROT_READ), 0);
    for (size_t n = 0; n <= 3; n++)
        moved += weir_percpu_put_n(slots, n, some) + weir_percpu_get_n(slots, n, some);
    if (weir_percpu_put(slots, object(1)) || weir_percpu_get(slots))
        moved++;
    cr_assert_eq(mprotect(start_of_page, page, PROT_READ | PROT_WRITE), 0);
    cr_assert_eq(moved, 0u);
    finish();
}

Test(percpu, last_in_is_first_out_up_to_the_capacity)
{
    start();
    install(3);
    for (size_t i = 0; i < 3; i++)
        cr_assert(weir_percpu_put(slots, object(i)));
    cr_assert_not(weir_percpu_put(slots, object(3)));
    cr_assert_eq(weir_percpu_count(slots, cpu), 3u);
    for (size_t i = 3; i-- > 0;)
        cr_assert_eq(weir_percpu_get(slots), object(i));
    cr_assert_null(weir_percpu_get(slots));
    cr_assert_eq(weir_percpu_count(slots, cpu), 0u);
    finish();
}

Test(percpu, get_n_gives_the_last_ones_in_the_order_they_lie_there)
{
    void *got[8];
    start();
    install(8);
    for (size_t i = 0; i < 8; i++)
        cr_assert(weir_percpu_put(slots, object(i)));
    cr_assert_eq(weir_percpu_get_n(slots, 3, got), 3u);
    for (size_t i = 0; i < 3; i++)
        cr_assert_eq(got[i], object(5 + i));
    cr_assert_eq(weir_percpu_get_n(slots, 100, got), 5u);
    for (size_t i = 0; i < 5; i++)
        cr_assert_eq(got[i], object(i));
    cr_assert_eq(weir_percpu_get_n(slots, 1, got), 0u);
    finish();
}

Test(percpu, put_n_takes_the_last_ones_that_fit)
{
    void *given[10];
    start();
    struct weir_magazine *magazine = install(7);
    for (size_t i = 0; i < 10; i++)
        given[i] = object(i);
    cr_assert_eq(weir_percpu_put_n(slots, 3, given), 3u);
    cr_assert_eq(weir_percpu_put_n(slots, 10, given), 4u);
    cr_assert_eq(weir_percpu_put_n(slots, 10, given), 0u);
    for (size_t i = 0; i < 7; i++)
        cr_assert_eq(weir_magazine_objects(magazine)[i], object(i < 3 ? i : 6 + i - 3));
    finish();
}

Test(percpu, nothing_is_asked_for_and_nothing_happens)
{
    void *none_needed[1];
    start();
    install(4);
    cr_assert(weir_percpu_put(slots, object(7)));
    cr_assert_eq(weir_percpu_get_n(slots, 0, none_needed), 0u);
    cr_assert_eq(weir_percpu_put_n(slots, 0, none_needed), 0u);
    cr_assert_eq(weir_percpu_get_n(slots, 0, NULL), 0u);
    cr_assert_eq(weir_percpu_put_n(slots, 0, NULL), 0u);
    cr_assert_eq(weir_percpu_get(slots), object(7));
    finish();
}

/* Each operation at random, beside an array that says what has to come out. */
static void against_model(size_t capacity, uint64_t seed)
{
    static void *model[2 * MOST], *array[2 * MOST];
    uint64_t random = seed;
    size_t have = 0, next = 0;
    struct weir_magazine *magazine = install(capacity), *old;

    for (unsigned step = 0; step < 400; step++) {
        size_t n = fixture_random(&random) % (capacity + 3), done;
        switch (fixture_random(&random) % 5) {
        case 0: /* get */
            cr_assert_eq(weir_percpu_get(slots), have ? model[have - 1] : NULL, "seed %llu, step %u",
                         (unsigned long long)seed, step);
            have -= have != 0;
            break;
        case 1: /* put */
            cr_assert_eq(weir_percpu_put(slots, object(next)), have < capacity);
            if (have < capacity)
                model[have++] = object(next++);
            break;
        case 2:
            array[n] = array; /* nothing may be written past what it says */
            done = weir_percpu_get_n(slots, n, array);
            cr_assert_eq(done, n < have ? n : have);
            have -= done;
            for (size_t i = 0; i < done; i++)
                cr_assert_eq(array[i], model[have + i], "seed %llu, step %u", (unsigned long long)seed, step);
            cr_assert_eq(array[n], array);
            break;
        case 3:
            for (size_t i = 0; i < n; i++)
                array[i] = object(next++);
            done = weir_percpu_put_n(slots, n, array);
            cr_assert_eq(done, n < capacity - have ? n : capacity - have);
            for (size_t i = 0; i < done; i++)
                model[have++] = array[n - done + i];
            break;
        default: /* out and in again: it is the one we put there, with what the model says in it */
            cr_assert(weir_percpu_exchange(slots, magazine_of(1), &old));
            cr_assert_eq(old, magazine);
            cr_assert_eq(magazine->count, have);
            cr_assert_eq(magazine->capacity, capacity);
            for (size_t i = 0; i < have; i++)
                cr_assert_eq(weir_magazine_objects(magazine)[i], model[i], "seed %llu, step %u",
                             (unsigned long long)seed, step);
            cr_assert(weir_percpu_exchange(slots, magazine, &old));
            cr_assert_eq(old->count, 0u);
            free(old);
        }
        cr_assert_eq(weir_percpu_count(slots, cpu), have);
    }
    cr_assert_eq(weir_percpu_detach(slots, cpu), magazine);
    weir_percpu_settle();
    free(magazine);
}

Test(percpu, slot_behaves_like_an_array_of_its_capacity)
{
    static const size_t capacities[] = {1, 2, 3, 4, 5, 7, 8, 16, 17, MOST - 1, MOST};
    start();
    for (size_t i = 0; i < sizeof capacities / sizeof capacities[0]; i++)
        for (uint64_t seed = 1; seed <= 40; seed++)
            against_model(capacities[i], seed * 1000 + i);
    finish();
}

Test(percpu, slots_may_lie_anywhere_in_the_stride)
{
    struct weir_percpu_slot *memory;
    start();
    memory = slots;
    /* Two more, behind the first. */
    struct weir_percpu_slot *second = memory + 1, *last = memory + 4;
    weir_percpu_slots_init(second);
    weir_percpu_slots_init(last);
    install(2);
    cr_assert(weir_percpu_put(slots, object(1)));
    slots = second;
    install(2);
    cr_assert(weir_percpu_put(slots, object(2)));
    slots = last;
    install(2);
    cr_assert(weir_percpu_put(slots, object(3)));
    cr_assert_eq(weir_percpu_get(memory), object(1));
    cr_assert_eq(weir_percpu_get(second), object(2));
    cr_assert_eq(weir_percpu_get(last), object(3));
    free(weir_percpu_detach(second, cpu));
    free(weir_percpu_detach(last, cpu));
    slots = memory;
    finish();
}

/* --- two CPUs --- */

Test(percpu, exchange_returns_what_was_there)
{
    struct weir_magazine *first, *second = magazine_of(2), *old = NULL;
    start();
    first = install(2);
    cr_assert(weir_percpu_put(slots, object(1)));
    cr_assert(weir_percpu_exchange(slots, second, &old));
    cr_assert_eq(old, first);
    cr_assert_eq(weir_magazine_get(first), object(1));
    cr_assert_null(weir_percpu_get(slots));
    cr_assert(weir_percpu_exchange(slots, first, &old));
    cr_assert_eq(old, second);
    free(second);
    finish();
}

Test(percpu, each_cpu_has_its_own)
{
    start();
    install(2);
    cr_assert(weir_percpu_put(slots, object(1)));
    if (other_cpu != cpu) {
        fixture_pin(other_cpu);
        cr_assert_null(weir_percpu_get(slots));
        install(2);
        cr_assert(weir_percpu_put(slots, object(2)));
        fixture_pin(cpu);
        cr_assert_eq(weir_percpu_get(slots), object(1));
        fixture_pin(other_cpu);
        cr_assert_eq(weir_percpu_get(slots), object(2));
    }
    finish();
}

Test(percpu, detach_takes_the_magazine_of_any_cpu_and_leaves_none)
{
    start();
    struct weir_magazine *magazine = install(4);
    for (size_t i = 0; i < 3; i++)
        cr_assert(weir_percpu_put(slots, object(i)));
    fixture_pin(other_cpu);
    cr_assert_eq(weir_percpu_detach(slots, cpu), magazine);
    weir_percpu_settle();
    cr_assert_eq(magazine->count, 3u);
    for (size_t i = 3; i-- > 0;)
        cr_assert_eq(weir_magazine_get(magazine), object(i));
    cr_assert_eq(weir_percpu_detach(slots, cpu), &weir_percpu_none);
    cr_assert_eq(weir_percpu_count(slots, cpu), 0u);
    fixture_pin(cpu);
    cr_assert_null(weir_percpu_get(slots));
    cr_assert_not(weir_percpu_put(slots, object(1)));
    free(magazine);
    finish();
}

static void *detach_it(void *arg)
{
    return weir_percpu_detach(arg, cpu);
}

Test(percpu, busy_slot_gives_and_takes_nothing_and_does_not_wait)
{
    void *two[2] = {object(5), object(6)};
    struct weir_magazine *old = NULL, *another = magazine_of(2);
    start();
    install(4);
    cr_assert(weir_percpu_put(slots, object(1)));
    if (fixture_locked()) {
        struct weir_percpu_slot *mine = (void *)((char *)slots + (size_t)cpu * WEIR_PERCPU_STRIDE);
        void *detached;
        weir_store_release(&mine->busy, 1u); /* as if somebody were in the middle of it */
        cr_assert_null(weir_percpu_get(slots));
        cr_assert_not(weir_percpu_put(slots, object(2)));
        cr_assert_eq(weir_percpu_get_n(slots, 2, two), 0u);
        cr_assert_eq(weir_percpu_put_n(slots, 2, two), 0u);
        cr_assert_not(weir_percpu_exchange(slots, another, &old));
        cr_assert_null(weir_percpu_detach(slots, cpu));
        cr_assert_eq(weir_percpu_count(slots, cpu), 0u);
        pthread_join(fixture_thread(detach_it, slots), &detached);
        cr_assert_null(detached);
        weir_store_release(&mine->busy, 0u);
    }
    cr_assert_eq(weir_percpu_count(slots, cpu), 1u);
    cr_assert_eq(weir_percpu_get(slots), object(1));
    free(another);
    finish();
}

/* --- threads that the kernel does not know restartable sequences of --- */

#if WEIR__RSEQ

/* Sits in a sequence until it is restarted or told to leave; was it restarted? */
static uint32_t in_sequence, leave;

static void *sit_in_sequence(void *unused)
{
    uint64_t scratch;
    fixture_pin(other_cpu);
    __asm__ __volatile__ goto(".pushsection __rseq_cs, \"aw?\"\n\t"
                              ".balign 32\n"
                              "3:\n\t"
                              ".long 0, 0\n\t"
                              ".quad 1f, 2f - 1f, 4f\n\t"
                              ".popsection\n\t"
                              "leaq 3b(%%rip), %[scratch]\n\t"
                              "movq %[scratch], %%fs:" WEIR__RSEQ_CS "(%[rseq])\n"
                              "1:\n\t"
                              "movl $1, %[in_sequence]\n"
                              "5:\n\t"
                              "pause\n\t"
                              "cmpl $0, %[leave]\n\t"
                              "je 5b\n"
                              "2:\n\t"
                              ".pushsection __rseq_failure, \"ax?\"\n\t"
                              ".byte 0x0f, 0xb9, 0x3d\n\t"
                              ".long " WEIR__RSEQ_SIGNATURE "\n"
                              "4:\n\t"
                              "jmp %l[restarted]\n\t"
                              ".popsection\n\t"
                              : [scratch] "=&r"(scratch), [in_sequence] "+m"(in_sequence)
                              : [leave] "m"(leave), [rseq] "r"(__rseq_offset)
                              : "memory", "cc"
                              : restarted);
    __asm__ __volatile__("");
    return unused;
restarted:
    return &in_sequence;
}

static void settle_other_cpu(void)
{
    weir_percpu_settle_cpu(other_cpu);
}

static void restarts_the_sequence_of_the_other_cpu(void (*settle)(void))
{
    cpu = fixture_stay(&other_cpu);
    if (fixture_locked() || cpu == other_cpu)
        return;
    for (unsigned i = 0; i < 20; i++) { /* by chance, a sequence may be restarted without */
        void *restarted = NULL;
        weir_store_relaxed(&in_sequence, 0u);
        weir_store_relaxed(&leave, 0u);
        pthread_t thread = fixture_thread(sit_in_sequence, NULL);
        while (weir_load_acquire(&in_sequence) == 0)
            weir_cpu_pause();
        settle();
        weir_store_release(&leave, 1u);
        pthread_join(thread, &restarted);
        cr_assert_not_null(restarted, "the sequence went on to its end");
    }
}

/* From here on membarrier is refused. */
static void refuse_membarrier(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof code / sizeof code[0], code};
    cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
}

Test(percpu, settle_that_is_refused_stops_the_program)
{
    char text[500];
    int status;
    bool locked = fixture_locked(); /* initializes */
    catch_stderr();
    pid_t child = fork();
    if (child == 0) {
        refuse_membarrier();
        weir_percpu_settle();
        _exit(0);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    unsigned lines = caught_lines(text, sizeof text);
    if (locked) { /* and where there is nothing to settle, it does not even ask */
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%x", (unsigned)status);
        return;
    }
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%x", (unsigned)status);
    cr_assert_eq(lines, 1u, "%s", text);
    cr_assert_not_null(strstr(text, "membarrier"));
}

Test(percpu, settle_restarts_the_sequences_of_other_cpus)
{
    restarts_the_sequence_of_the_other_cpu(weir_percpu_settle);
}

Test(percpu, settle_cpu_restarts_the_sequences_of_that_cpu)
{
    restarts_the_sequence_of_the_other_cpu(settle_other_cpu);
}

static void *use_without_rseq(void *cpu_id)
{
    static char memory[WEIR_MAGAZINE_BYTES(4)] __attribute__((aligned(16)));
    struct weir_magazine *magazine = weir_magazine_init(memory, sizeof memory), *old = NULL;
    void *two[2] = {object(5), object(6)};
    fixture_pin(cpu);
    if (!fixture_unregister_rseq((int32_t)(intptr_t)cpu_id))
        return NULL;
    if (fixture_locked()) { /* which does without it */
        cr_assert_eq(weir_percpu_get(slots), object(1));
        cr_assert(weir_percpu_put(slots, object(1)));
        return NULL;
    }
    cr_assert_eq(weir_percpu_cpu(), cpu);
    cr_assert_null(weir_percpu_get(slots));
    cr_assert_not(weir_percpu_put(slots, object(2)));
    cr_assert_eq(weir_percpu_get_n(slots, 2, two), 0u);
    cr_assert_eq(weir_percpu_put_n(slots, 2, two), 0u);
    cr_assert_not(weir_percpu_exchange(slots, magazine, &old));
    cr_assert_null(old);
    cr_assert_eq(weir_percpu_count(slots, cpu), 1u); /* of any CPU: can be told */
    return NULL;
}

Test(percpu, thread_without_rseq_finds_no_slot_and_breaks_nothing)
{
    start();
    install(4);
    cr_assert(weir_percpu_put(slots, object(1)));
    pthread_join(fixture_thread(use_without_rseq, (void *)(intptr_t)-1), NULL);
    pthread_join(fixture_thread(use_without_rseq, (void *)(intptr_t)-2), NULL);
    cr_assert_eq(weir_percpu_get(slots), object(1));
    cr_assert_null(weir_percpu_get(slots));
    finish();
}

#endif
