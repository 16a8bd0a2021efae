/* SPDX-License-Identifier: MIT */
/* weir/percpu.h, in whichever mode the environment asks for: slots against a model, choosing the mode. */
#include "fixtures.h"
#include "percpu.h"
#include "unit/caught.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
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
        cr_assert_eq(strstr(reason, "WEIR_PERCPU") != NULL, mode == WEIR_PERCPU_LOCK);
    } else if (!WEIR__RSEQ) {
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
        cr_assert_eq(weir_percpu_mode(), WEIR_PERCPU_RSEQ);
        cr_assert_eq(lines, 0u, "%s", text);
        return;
    }
    cr_assert_eq(error, -ENOTSUP);
    cr_assert_eq(lines, 1u, "%s", text);
    cr_assert_not_null(strstr(text, "WEIR_PERCPU"));
    cr_assert_null(weir_percpu_alloc());
}

Test(percpu, unknown_value_is_an_error_of_one_line)
{
    char text[500];
    setenv("WEIR_PERCPU", "bogus", 1);
    catch_stderr();
    int first = weir_percpu_init(), second = weir_percpu_init();
    void *memory = weir_percpu_alloc();
    unsigned lines = caught_lines(text, sizeof text);
    cr_assert_eq(first, -EINVAL);
    cr_assert_eq(second, -EINVAL);
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
    if (weir_percpu_put(slots, object(1)) || weir_percpu_get(slots) ||
        weir__percpu_put_more(slots, object(1), 2, 8))
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

Test(percpu, put_more_goes_beyond_a_capacity_that_was_set_low)
{
    start();
    struct weir_magazine *magazine = install(8);
    magazine->capacity = 2;
    cr_assert(weir_percpu_put(slots, object(0)));
    cr_assert(weir_percpu_put(slots, object(1)));
    cr_assert_not(weir_percpu_put(slots, object(2)));
    cr_assert(weir__percpu_put_more(slots, object(2), 3, 8));
    cr_assert_eq(magazine->capacity, 5u);
    cr_assert(weir_percpu_put(slots, object(3)));
    cr_assert(weir_percpu_put(slots, object(4)));
    cr_assert_not(weir_percpu_put(slots, object(5)));
    cr_assert(weir__percpu_put_more(slots, object(5), 100, 8));
    cr_assert_eq(magazine->capacity, 8u);
    cr_assert(weir_percpu_put(slots, object(6)));
    cr_assert(weir_percpu_put(slots, object(7)));
    cr_assert_not(weir__percpu_put_more(slots, object(8), 1, 8), "it is full");
    for (size_t i = 0; i < 8; i++)
        cr_assert_eq(weir_magazine_objects(magazine)[i], object(i));
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
        cr_assert_not(weir__percpu_put_more(slots, object(2), 1, 4));
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

/* From here on the kernel does `what` at the system call `number`. False if there are no such filters. */
static bool filtered(unsigned number, unsigned what)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, what),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* From here on the kernel says `error`; 0: it says that it has been done. */
static void refuse(long number, int error)
{
    cr_assert(filtered((unsigned)number, SECCOMP_RET_ERRNO | (unsigned)error));
}

/* Sits in a sequence until it is restarted or told to leave; was it restarted? */
static uint32_t in_sequence, leave;

static bool restarted_in_sequence(void)
{
    uint64_t magazine, scratch;
    __asm__ __volatile__ goto(
        WEIR__SEQUENCE("magazine", "scratch", WEIR__RSEQ_SIT, "%l[restarted]")
        : [magazine] "=&r"(magazine), [scratch] "=&r"(scratch)
        : [rseq] "r"(weir__rseq_area.offset), [inside] "r"(&in_sequence), [leave] "r"(&leave)
        : "memory", "cc"
        : restarted);
    __asm__ __volatile__("");
    return false;
restarted:
    return true;
}

static void *sit_in_sequence(void *unused)
{
    (void)unused;
    fixture_pin(other_cpu);
    cr_assert_eq(weir_percpu_cpu(), other_cpu); /* and has the thread registered */
    return restarted_in_sequence() ? &in_sequence : NULL;
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

Test(percpu, settle_that_is_refused_stops_the_program)
{
    char text[500];
    int status;
    bool locked = fixture_locked(); /* initializes */
    catch_stderr();
    pid_t child = fork();
    if (child == 0) {
        if (!filtered(SYS_membarrier, SECCOMP_RET_ERRNO | EPERM))
            _exit(0); /* an emulator */
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

/* An area of the test's own; registering it fails if the thread has one already. */
static char area[32] __attribute__((aligned(32)));

static bool register_area(void)
{
    return syscall(SYS_rseq, area, sizeof area, 0, WEIR__RSEQ_SIGNATURE) == 0;
}

static void unregister_area(void)
{
    cr_assert_eq(syscall(SYS_rseq, area, sizeof area, 1, WEIR__RSEQ_SIGNATURE), 0);
}

/* Is the calling thread registered, by whomever? */
static bool registered_before(void)
{
    bool done = register_area();
    if (done)
        unregister_area();
    return !done;
}

/* Did the C library register rseq? */
static bool by_the_c_library(void)
{
    return strstr(weir_percpu_reason(), "by the C library") != NULL;
}

/* By a thread that has, and gets, no rseq. */
static void find_no_slot(void)
{
    static char memory[WEIR_MAGAZINE_BYTES(4)] __attribute__((aligned(16)));
    struct weir_magazine *magazine = weir_magazine_init(memory, sizeof memory), *old = NULL;
    void *two[2] = {object(5), object(6)};
    if (fixture_locked()) { /* which does without it */
        cr_assert_eq(weir_percpu_get(slots), object(1));
        cr_assert(weir_percpu_put(slots, object(1)));
        return;
    }
    cr_assert_eq(weir_percpu_cpu(), cpu);
    cr_assert_null(weir_percpu_get(slots));
    cr_assert_not(weir_percpu_put(slots, object(2)));
    cr_assert_eq(weir_percpu_get_n(slots, 2, two), 0u);
    cr_assert_eq(weir_percpu_put_n(slots, 2, two), 0u);
    cr_assert_not(weir_percpu_exchange(slots, magazine, &old));
    cr_assert_null(old);
    cr_assert_eq(weir_percpu_count(slots, cpu), 1u); /* of any CPU: can be told */
}

static void *use_without_rseq(void *cpu_id)
{
    fixture_pin(cpu);
    if (fixture_unregister_rseq((int32_t)(intptr_t)cpu_id))
        find_no_slot();
    return NULL;
}

Test(percpu, thread_without_rseq_finds_no_slot_and_breaks_nothing)
{
    start();
    install(4);
    cr_assert(weir_percpu_put(slots, object(1)));
    if (by_the_c_library())
        pthread_join(fixture_thread(use_without_rseq, (void *)(intptr_t)-1), NULL);
    pthread_join(fixture_thread(use_without_rseq, (void *)(intptr_t)-2), NULL);
    cr_assert_eq(weir_percpu_get(slots), object(1));
    cr_assert_null(weir_percpu_get(slots));
    finish();
}

/* --- threads that weir registers --- */

static void *use_refused(void *unused)
{
    fixture_pin(cpu);
    errno = 77;
    find_no_slot();
    cr_assert_eq(errno, 77);
    find_no_slot();
    return unused;
}

Test(percpu, thread_that_cannot_be_registered_finds_no_slot_and_breaks_nothing)
{
    bool before = registered_before();
    start();
    install(4);
    cr_assert(weir_percpu_put(slots, object(1)));
    if (!before) { /* else the C library stops the program */
        refuse(SYS_rseq, EPERM);
        pthread_join(fixture_thread(use_refused, NULL), NULL);
    }
    cr_assert_eq(weir_percpu_get(slots), object(1));
    finish();
}

/* The first thing that a thread does is registering it, whatever that is. */
static void *use_first(void *which)
{
    struct weir_magazine *magazine = magazine_of(4), *old = NULL;
    void *one[1] = {object(1)};
    fixture_pin(cpu);
    errno = 77;
    switch ((int)(intptr_t)which) {
    case 0:
        cr_assert_eq(weir_percpu_get(slots), object(1));
        cr_assert(weir_percpu_put(slots, object(1)));
        break;
    case 1:
        cr_assert(weir_percpu_put(slots, object(2)));
        cr_assert_eq(weir_percpu_get(slots), object(2));
        break;
    case 2:
        cr_assert_eq(weir_percpu_get_n(slots, 1, one), 1u);
        cr_assert_eq(weir_percpu_put_n(slots, 1, one), 1u);
        break;
    case 3:
        cr_assert_eq(weir_percpu_put_n(slots, 1, one), 1u);
        cr_assert_eq(weir_percpu_get_n(slots, 1, one), 1u);
        break;
    case 4:
        cr_assert(weir_percpu_exchange(slots, magazine, &old));
        cr_assert(weir_percpu_exchange(slots, old, &magazine));
        break;
    default:
        cr_assert_eq(weir_percpu_cpu(), cpu);
    }
    cr_assert_eq(errno, 77);
    if (!fixture_locked())
        cr_assert_eq(weir__rseq_cpu(), (int32_t)cpu);
    free(magazine);
    return NULL;
}

Test(percpu, new_thread_finds_its_slot_whatever_it_does_first)
{
    start();
    install(4);
    cr_assert(weir_percpu_put(slots, object(1)));
    for (intptr_t which = 0; which <= 5; which++)
        pthread_join(fixture_thread(use_first, (void *)which), NULL);
    cr_assert_eq(weir_percpu_count(slots, cpu), 1u);
    finish();
}

static volatile sig_atomic_t got_in_handler;

static void get_in_handler(int number)
{
    (void)number;
    got_in_handler = weir_percpu_get(slots) == object(1);
}

static void *use_first_in_handler(void *unused)
{
    fixture_pin(cpu);
    raise(SIGUSR1);
    cr_assert(weir_percpu_put(slots, object(1)));
    return unused;
}

Test(percpu, new_thread_finds_its_slot_in_a_signal_handler)
{
    struct sigaction action = {.sa_handler = get_in_handler};
    sigaction(SIGUSR1, &action, NULL);
    start();
    install(4);
    cr_assert(weir_percpu_put(slots, object(1)));
    pthread_join(fixture_thread(use_first_in_handler, NULL), NULL);
    cr_assert(got_in_handler);
    finish();
}

static void *end_detached(void *done)
{
    void *got = weir_percpu_get(slots);
    if (got != NULL)
        while (!weir_percpu_put(slots, got)) /* in lock mode, or elsewhere by now */
            fixture_pin(cpu);
    weir_fetch_add_release((uint32_t *)done, 1u); /* pairs with the wait's acquire */
    return NULL;
}

/* The kernel must not write to a thread's area when its memory is gone, or another thread's. */
Test(percpu, threads_come_and_go)
{
    enum { THREADS = 2000 };
    uint32_t done = 0;
    start();
    install(4);
    cr_assert(weir_percpu_put(slots, object(1)));
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    for (uint32_t i = 0; i < THREADS; i++) {
        pthread_t thread;
        while (pthread_create(&thread, &detached, end_detached, &done) != 0)
            sched_yield();
        if (i % 16 == 0)
            FIXTURE_AWAIT(weir_load_acquire(&done) > i);
    }
    FIXTURE_AWAIT(weir_load_acquire(&done) == THREADS);
    cr_assert_eq(weir_percpu_count(slots, cpu), 1u);
    finish();
}

Test(percpu, child_of_fork_goes_on_as_its_parent)
{
    int status;
    cpu = fixture_stay(&other_cpu);
    slots = weir_percpu_alloc();
    cr_assert_not_null(slots);
    weir_percpu_slots_init(slots);
    install(4);
    cr_assert(weir_percpu_put(slots, object(1)));
    pid_t child = fork();
    if (child == 0) {
        /* Of its own memory; and it may interrupt others, and others it. */
        if (weir_percpu_get(slots) != object(1))
            _exit(1);
        weir_percpu_settle();
        restarts_the_sequence_of_the_other_cpu(weir_percpu_settle);
        _exit(0);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    cr_assert_eq(weir_percpu_get(slots), object(1));
    finish();
}

/* --- why not --- */

/* True if rseq could be used here, but for what the test is about to do; whatever WEIR_PERCPU says. */
static bool rseq_is_there(void)
{
    unsetenv("WEIR_PERCPU");
    return !(syscall(SYS_rseq, NULL, 0, 0, 0) == -1 && errno == ENOSYS);
}

/* In lock mode, for this reason; and it works. */
static void is_locked_because(const char *why)
{
    cr_assert_eq(weir_percpu_mode(), WEIR_PERCPU_LOCK, "%s", weir_percpu_reason());
    cr_assert_not_null(strstr(weir_percpu_reason(), why), "%s", weir_percpu_reason());
    cr_assert_lt(weir__rseq_cpu(), 0); /* the fast paths find nothing */
    slots = weir_percpu_alloc();
    cr_assert_not_null(slots);
    weir_percpu_slots_init(slots);
    install(2);
    cr_assert(weir_percpu_put(slots, object(1)));
    cr_assert_eq(weir_percpu_get(slots), object(1));
    finish();
}

static void rseq_is_refused(int error, const char *why)
{
    if (!rseq_is_there())
        return;
    if (registered_before())
        return; /* and refusing it from now on makes the C library stop the program */
    cpu = fixture_stay(NULL);
    refuse(SYS_rseq, error);
    is_locked_because(why);
}

Test(percpu, weir_registers_what_the_c_library_did_not)
{
    if (!rseq_is_there())
        return;
    const char *who = registered_before() ? "rseq: registered by the C library" : "rseq: registered by weir";
    cr_assert_not_null(strstr(weir_percpu_reason(), who), "%s", weir_percpu_reason());
}

Test(percpu, kernel_without_rseq_is_the_reason)
{
    rseq_is_refused(ENOSYS, "the kernel has no restartable sequences");
}

Test(percpu, filter_that_refuses_rseq_is_the_reason)
{
    rseq_is_refused(EPERM, "the kernel refuses to register rseq");
}

Test(percpu, rseq_of_another_library_is_the_reason)
{
    if (!rseq_is_there() || !register_area())
        return;
    cpu = fixture_stay(NULL);
    is_locked_because("somebody else in this process has registered rseq");
    unregister_area(); /* it still is theirs */
}

Test(percpu, kernel_without_membarrier_is_the_reason)
{
    if (!rseq_is_there())
        return;
    cpu = fixture_stay(NULL);
    refuse(SYS_membarrier, EINVAL);
    is_locked_because("membarrier");
}

Test(percpu, no_thread_for_the_self_test_is_the_reason)
{
    if (!rseq_is_there())
        return;
    /* In a child that ends without ado: the leak checker wants a thread at the end, too. */
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        refuse(SYS_clone, EAGAIN);
#ifdef SYS_clone3
        refuse(SYS_clone3, EAGAIN);
#endif
        bool locked = weir_percpu_mode() == WEIR_PERCPU_LOCK;
        _exit(locked && strstr(weir_percpu_reason(), "no thread could be started") != NULL ? 0 : 1);
    }
    int status = -1;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* A kernel that says that it has restarted every sequence, and has restarted none. Where by chance each of
 * them was preempted meanwhile it does not show: then once more. */
Test(percpu, sequence_that_does_not_restart_is_the_reason)
{
    if (!rseq_is_there())
        return;
    cpu = fixture_stay(&other_cpu);
    if (cpu == other_cpu)
        return; /* there each sequence is preempted */
    for (unsigned i = 0; i < 200; i++) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            fixture_pin(cpu);
            refuse(SYS_membarrier, 0);
            cpu_set_t both; /* the self-test's threads choose theirs */
            CPU_ZERO(&both);
            CPU_SET(cpu, &both);
            CPU_SET(other_cpu, &both);
            sched_setaffinity(0, sizeof both, &both);
            if (weir_percpu_mode() == WEIR_PERCPU_RSEQ)
                _exit(1);
            is_locked_because("an interrupted sequence did not restart");
            _exit(0);
        }
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) <= 1, "%x", (unsigned)status);
        if (status == 0)
            return;
    }
    cr_assert_fail("never noticed");
}

/* getcpu() says that we are on another CPU. */
static void on_filtered(int number, siginfo_t *info, void *context)
{
    ucontext_t *interrupted = context;
    unsigned *to;
    (void)number;
    (void)info;
#if defined(__x86_64__)
    to = (unsigned *)interrupted->uc_mcontext.gregs[REG_RDI];
    interrupted->uc_mcontext.gregs[REG_RAX] = 0;
#else
    to = (unsigned *)interrupted->uc_mcontext.regs[0];
    interrupted->uc_mcontext.regs[0] = 0;
#endif
    *to = 1234567;
}

Test(percpu, wrong_cpu_number_is_the_reason)
{
    struct sigaction action = {.sa_sigaction = on_filtered, .sa_flags = SA_SIGINFO};
    if (!rseq_is_there())
        return;
    cpu = fixture_stay(NULL);
    sigaction(SIGSYS, &action, NULL);
    cr_assert(filtered(SYS_getcpu, SECCOMP_RET_TRAP));
    is_locked_because("is not that of the CPU we are on");
}

#if defined(__GLIBC__)
#if __GLIBC_PREREQ(2, 35)
#include <sys/rseq.h>

/* As if something had taken the C library's registration away and left `number` where the CPU's was. */
static void number_is_the_reason(int32_t number, const char *why)
{
    if (!rseq_is_there() || __rseq_size == 0)
        return;
    cpu = fixture_stay(NULL);
    char *theirs = weir__thread_pointer() + __rseq_offset;
    bool done = false;
    for (unsigned size = 32; size <= 1024 && !done; size += 32)
        done = syscall(SYS_rseq, theirs, size, 1, WEIR__RSEQ_SIGNATURE) == 0;
    cr_assert(done);
    memcpy(theirs + 4, &number, sizeof number);
    is_locked_because(why);
}

Test(percpu, cpu_number_that_does_not_fit_is_the_reason)
{
    number_is_the_reason(1 << 20, "higher than any CPU's");
}

Test(percpu, thread_that_is_not_registered_is_the_reason)
{
    number_is_the_reason(-1, "but not for every thread");
}
#endif
#endif

/* --- how many CPUs --- */

Test(percpu, without_a_list_of_cpus_there_are_slots_for_all_there_may_be)
{
    unsigned cpus[CPU_SETSIZE], n = fixture_cpus(cpus, CPU_SETSIZE);
    if (!rseq_is_there())
        return;
    refuse(SYS_openat, EACCES); /* /sys/devices/system/cpu/possible */
    cr_assert_eq(weir_percpu_nr_cpus() % 64, 0u);
    cr_assert_lt(cpus[n - 1], weir_percpu_nr_cpus());
    cr_assert_eq(weir_percpu_mode(), WEIR_PERCPU_RSEQ, "%s", weir_percpu_reason());
}

Test(percpu, not_knowing_how_many_cpus_there_may_be_is_the_reason)
{
    if (!rseq_is_there())
        return;
    cpu = fixture_stay(NULL);
    refuse(SYS_openat, EACCES);
    refuse(SYS_sched_getaffinity, EPERM);
    is_locked_because("how high CPU numbers may be");
}

/* Shows the process a list of CPUs of our own. False where that is not allowed. */
static bool forge_list(const char *list)
{
    char name[] = "/tmp/weir-possible-XXXXXX";
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return false;
    int file = mkstemp(name);
    cr_assert_geq(file, 0);
    cr_assert_eq(write(file, list, strlen(list)), (ssize_t)strlen(list));
    close(file);
    bool done = mount(name, "/sys/devices/system/cpu/possible", NULL, MS_BIND, NULL) == 0;
    unlink(name);
    return done;
}

Test(percpu, list_that_forgets_the_cpu_we_may_run_on_is_put_right)
{
    unsigned cpus[CPU_SETSIZE], n = fixture_cpus(cpus, CPU_SETSIZE);
    if (forge_list("0\n"))
        cr_assert_eq(weir_percpu_nr_cpus(), cpus[n - 1] + 1);
}

Test(percpu, cpu_that_the_list_forgets_has_no_slot_and_breaks_nothing)
{
    void *two[2] = {object(1), object(2)};
    struct weir_magazine *magazine = magazine_of(2), *old = NULL;
    cpu = fixture_stay(&other_cpu);
    if (!rseq_is_there() || cpu != 0 || other_cpu == 0 || !forge_list("0\n"))
        return;
    start();
    cr_assert_eq(weir_percpu_nr_cpus(), 1u);
    install(2);
    cr_assert_eq(weir_percpu_mode(), WEIR_PERCPU_RSEQ, "%s", weir_percpu_reason());
    fixture_pin(1);
    cr_assert_null(weir_percpu_get(slots));
    cr_assert_not(weir_percpu_put(slots, object(1)));
    cr_assert_eq(weir_percpu_get_n(slots, 2, two), 0u);
    cr_assert_eq(weir_percpu_put_n(slots, 2, two), 0u);
    cr_assert_not(weir_percpu_exchange(slots, magazine, &old));
    cr_assert_lt(weir_percpu_cpu(), 1u);
    free(magazine);
    finish();
}

#endif
