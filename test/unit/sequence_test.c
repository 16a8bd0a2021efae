/* SPDX-License-Identifier: MIT */
/*
 * The restartable sequences of weir/percpu.h, interrupted before each of their instructions, with the
 * kernel's part played by the test: so it runs where the kernel has no such sequences (emulated aarch64),
 * and each interruption is made to happen. One thread has a struct rseq that the kernel does not know, with
 * a CPU number made up. A signal handler does what the kernel does: if the program counter is within the
 * sequence that is armed, the thread goes on at its abort handler. Then it uses the slots itself. A
 * sequence that commits what it should have begun again loses an object, or has it twice; all are counted.
 *
 * x86-64 is interrupted by the trap flag, after each instruction; aarch64 by breakpoints written over each
 * instruction of each sequence. Then both by a timer, at random.
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "percpu.h"
#include "weir_test.h"

#if !WEIR__RSEQ

Test(sequence, there_is_none_for_this_machine)
{
    cr_assert_eq(weir_percpu_mode(), WEIR_PERCPU_LOCK);
}

#else

enum { CPUS = 2, OBJECTS = 100, CAPACITY = 20, MAGAZINES = 5, MOST = 19, MORE = 3 };

/* --- the kernel's part --- */

static __thread struct {
    uint32_t cpu_id_start;
    int32_t cpu_id;
    uint64_t sequence;
    uint32_t rest[4];
} area __attribute__((aligned(32), tls_model("initial-exec"))) = {.cpu_id = -1};

struct descriptor {
    uint32_t version, flags;
    uint64_t start, length, abort;
};

/* A failure in a handler: no test framework, no second thought. */
static void stop(const char *what)
{
    if (write(2, what, strlen(what)) < 0 || write(2, "\n", 1) < 0)
        _exit(2);
    _exit(1);
}

/* The thread lost its CPU, or got a signal, at `pc`; where it goes on. */
static uintptr_t interrupted_at(uintptr_t pc)
{
    struct descriptor *armed = (struct descriptor *)(uintptr_t)area.sequence;
    uint32_t signature;
    area.sequence = 0;
    if (armed == NULL || pc - armed->start >= armed->length)
        return pc;
    memcpy(&signature, (char *)(uintptr_t)armed->abort - sizeof signature, sizeof signature);
    if (armed->version != 0 || armed->flags != 0 || signature != WEIR__RSEQ_SIGNATURE)
        stop("a descriptor that the kernel would not accept");
    if (armed->abort - armed->start < armed->length)
        stop("an abort handler within its sequence");
    return armed->abort;
}

/* Where the interrupted thread goes on. */
static uintptr_t pc_of(const void *context)
{
#if defined(__x86_64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#else
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.pc;
#endif
}

/* Returns whether it makes it start again. */
static bool interrupt(void *context)
{
    ucontext_t *interrupted = context;
    uintptr_t pc = pc_of(context), next = interrupted_at(pc);
#if defined(__x86_64__)
    interrupted->uc_mcontext.gregs[REG_RIP] = (greg_t)next;
#else
    interrupted->uc_mcontext.pc = next;
#endif
    return next != pc;
}

/* --- who uses the slots: the thread and the handler, each with objects and magazines of its own --- */

struct user {
    unsigned objects, magazines;
    uint64_t ticks;
    void *object[OBJECTS];
    struct weir_magazine *magazine[MAGAZINES];
};

static struct weir_percpu_slot *slots;
static struct user thread, handler;
static uint64_t words[CPUS][WEIR_PERCPU_STRIDE / sizeof(uint64_t)]; /* counts of ticks */
static char memory[MAGAZINES][WEIR_MAGAZINE_BYTES(CAPACITY)] __attribute__((aligned(16)));

static void keep(struct user *user, struct weir_magazine *magazine)
{
    if (magazine != &weir_percpu_none)
        user->magazine[user->magazines++] = magazine;
}

static void get(struct user *user)
{
    void *object = weir_percpu_get(slots);
    if (object != NULL)
        user->object[user->objects++] = object;
}

static void put(struct user *user)
{
    if (user->objects != 0 && weir_percpu_put(slots, user->object[user->objects - 1]))
        user->objects--;
}

static void put_more(struct user *user)
{
    if (user->objects != 0 && weir__percpu_put_more(slots, user->object[user->objects - 1], MORE, CAPACITY))
        user->objects--;
}

static __attribute__((noinline)) bool tick_if(uint32_t state)
{
    return weir__percpu_tick(words[0], &state);
}

/* With a state that forbids it, none is counted. */
static void tick(struct user *user)
{
    user->ticks += tick_if(0);
    if (tick_if(1))
        stop("a tick through a closed gate");
}

static void get_n(struct user *user, size_t n)
{
    void *got[MOST];
    n = weir_percpu_get_n(slots, n, got);
    for (size_t i = 0; i < n; i++)
        user->object[user->objects++] = got[i];
}

static void put_n(struct user *user, size_t n)
{
    if (n <= user->objects)
        user->objects -= (unsigned)weir_percpu_put_n(slots, n, user->object + user->objects - n);
}

static void exchange(struct user *user)
{
    struct weir_magazine *old;
    if (user->magazines != 0 && weir_percpu_exchange(slots, user->magazine[user->magazines - 1], &old)) {
        user->magazines--;
        keep(user, old);
    }
}

/* Takes the magazine of a CPU away, and what is in it. */
static void detach(struct user *user, unsigned cpu)
{
    struct weir_magazine *magazine = weir_percpu_detach(slots, cpu);
    void *object;
    while ((object = weir_magazine_get(magazine)) != NULL)
        user->object[user->objects++] = object;
    keep(user, magazine);
}

static void *object(size_t number)
{
    return (void *)(0x10000 + number * 16);
}

/* CPU 0 has a magazine with `have` objects, CPU 1 one with four; the rest of all is the users'. */
static void begin(unsigned have)
{
    size_t next = 0;
    memset(&thread, 0, sizeof thread);
    memset(&handler, 0, sizeof handler);
    memset(words, 0, sizeof words);
    weir_percpu_slots_init(slots);
    for (unsigned i = 0; i < MAGAZINES; i++) {
        struct weir_magazine *magazine = weir_magazine_init(memory[i], sizeof memory[i]), *old;
        area.cpu_id = (int32_t)i;
        if (i >= CPUS)
            keep(i == CPUS ? &thread : &handler, magazine);
        else if (!weir_percpu_exchange(slots, magazine, &old))
            stop("no exchange");
        for (unsigned n = i == 0 ? have : 4; i < CPUS && n > 0; n--)
            weir_magazine_put(magazine, object(next++));
    }
    /* The magazines not in a slot hold some, too, so that an exchange changes what there is. */
    for (unsigned n = 0; n < 5; n++) {
        weir_magazine_put(thread.magazine[0], object(next++));
        weir_magazine_put(handler.magazine[0], object(next++));
    }
    while (next < OBJECTS) {
        struct user *user = next % 2 ? &thread : &handler;
        user->object[user->objects++] = object(next++);
    }
    area.cpu_id = 0;
}

static unsigned seen[OBJECTS];

static void see(void *found)
{
    size_t number = ((uintptr_t)found - 0x10000) / 16;
    if (number >= OBJECTS)
        stop("something that is no object");
    seen[number]++;
}

/* Each object and each magazine is there, once, and each tick was counted. */
static bool all_there(void)
{
    struct user *users[] = {&thread, &handler};
    unsigned magazines = 0;
    memset(seen, 0, sizeof seen);
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        detach(&thread, cpu);
    for (unsigned u = 0; u < 2; u++) {
        for (unsigned i = 0; i < users[u]->objects; i++)
            see(users[u]->object[i]);
        for (unsigned i = 0; i < users[u]->magazines; i++, magazines++)
            for (void *found; (found = weir_magazine_get(users[u]->magazine[i])) != NULL;)
                see(found);
    }
    for (unsigned i = 0; i < OBJECTS; i++)
        if (seen[i] != 1)
            return false;
    return magazines == MAGAZINES && words[0][0] + words[1][0] == thread.ticks + handler.ticks;
}

/* What the thread does, in the middle of which it is interrupted. */
enum operation { GET, PUT, EXCHANGE, PUT_MORE, TICK, GET_N, PUT_N, OPERATIONS };
static const char *const operation_names[] = {"get", "put", "exchange", "put_more", "tick", "get_n", "put_n"};

static void operate(struct user *user, enum operation operation, size_t n)
{
    switch (operation) {
    case GET:
        get(user);
        break;
    case PUT:
        put(user);
        break;
    case EXCHANGE:
        exchange(user);
        break;
    case PUT_MORE:
        put_more(user);
        break;
    case TICK:
        tick(user);
        break;
    case GET_N:
        get_n(user, n);
        break;
    default:
        put_n(user, n);
    }
}

/* What happens meanwhile. NOTHING: the kernel is entered and left, and no sequence restarted. */
enum event { USE, SWAP = OPERATIONS, MOVE, MOVE_AND_USE, DETACH, RESTART, NOTHING, EVENTS };

static void happen(unsigned event)
{
    switch (event) {
    case SWAP: /* the count is the same after it, what is counted is not */
        get_n(&handler, 2);
        put(&handler);
        put(&handler);
        break;
    case MOVE_AND_USE:
        get(&handler);
        exchange(&handler);
        area.cpu_id ^= 1;
        put(&handler);
        break;
    case MOVE:
        area.cpu_id ^= 1;
        break;
    case DETACH:
        detach(&handler, (unsigned)area.cpu_id);
        break;
    case RESTART:
    case NOTHING:
        break;
    default:
        operate(&handler, event, 3);
    }
}

static uint32_t widest; /* what the processor can do */

static void start(void)
{
    setenv("WEIR_PERCPU", "lock", 1); /* the real kernel is left alone */
    cr_assert_eq(weir_percpu_init(), 0);
    widest = weir__percpu.wide;
    weir__percpu = (struct weir__percpu){WEIR_PERCPU_RSEQ, CPUS, CPUS, widest};
    weir__rseq_area.offset = (char *)&area - weir__thread_pointer();
    slots = weir_percpu_alloc();
    cr_assert_not_null(slots);
}

static void finish(void)
{
    weir_percpu_free(slots);
}

/* --- each instruction --- */

struct trial {
    enum operation operation;
    unsigned n, have, event;
};

static struct trial trial;
static volatile sig_atomic_t hits; /* the event has happened so many times */

/* Returns whether a sequence has to start again. */
static bool on_hit(void *context)
{
    bool restarts = trial.event != NOTHING && interrupt(context);
    hits++;
    happen(trial.event);
    return restarts;
}

static void check(bool good, unsigned long where)
{
    if (!good) {
        fprintf(stderr, "%s of %u, %u in the slot, event %u, interrupted at %#lx\n",
                operation_names[trial.operation], trial.n, trial.have, trial.event, where);
        exit(1);
    }
}

/* The operations to interrupt: each way through them. `go` interrupts one at every point. */
static void every_operation(void (*go)(void))
{
    static const unsigned numbers[] = {1, 15, 17}, haves[] = {CAPACITY, 3};
    bool quick = getenv("WEIR_SEQUENCE_QUICK") != NULL; /* one way each, where single steps are slow */
    for (unsigned operation = 0; operation < OPERATIONS; operation++)
        for (unsigned h = quick; h < sizeof haves / sizeof haves[0]; h++)
            for (unsigned i = quick && operation >= GET_N ? 2 : 0;
                 i < (operation < GET_N ? 1 : sizeof numbers / sizeof numbers[0]); i++) {
                trial = (struct trial){operation, numbers[i], haves[h], 0};
                /* Bulk copies: with narrow registers, and with wide ones where there are some. */
                for (weir__percpu.wide = operation < GET_N ? widest : 0; weir__percpu.wide <= widest;
                     weir__percpu.wide++)
                    go();
            }
    weir__percpu.wide = widest;
}

#if defined(__x86_64__)

enum { TRAP_FLAG = 0x100 };
static volatile sig_atomic_t stepping, steps, target;

static void on_step(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    /* Before the sequence is armed there is nothing to interrupt. After the first interruption, which may
     * make it start again, comes a second one, some instructions later: is it armed again? */
    if (stepping && hits == 0 && area.sequence != 0 && steps++ == target)
        on_hit(context);
    else if (stepping && hits == 1 && steps++ == target + 1 + (target * 5 + (int)trial.event * 3) % 12)
        on_hit(context);
    if (!stepping || hits == 2)
        ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
}

__attribute__((noinline)) static void operate_stepping(void)
{
    hits = steps = 0;
    area.sequence = 0;
    stepping = 1;
    __asm__ __volatile__("leaq -128(%%rsp), %%rsp\n\t" /* there may be a red zone */
                         "pushfq\n\t"
                         "orq $0x100, (%%rsp)\n\t"
                         "popfq\n\t"
                         "leaq 128(%%rsp), %%rsp"
                         :
                         :
                         : "memory", "cc");
    operate(&thread, trial.operation, trial.n);
    stepping = 0;
    __asm__ __volatile__("nop" ::: "memory");
}

static void after_each_instruction(void)
{
    for (trial.event = 0; trial.event < EVENTS; trial.event++) {
        target = 0;
        do {
            begin(trial.have);
            operate_stepping();
            check(all_there(), (unsigned long)target);
            target++;
        } while (hits != 0);
        check(target > 10, (unsigned long)target); /* it did step */
    }
}

Test(sequence, survives_an_interruption_after_each_instruction)
{
    struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
    start();
    sigaction(SIGTRAP, &action, NULL);
    every_operation(after_each_instruction);
    finish();
}

#else

/* All descriptors of the program, in the order in which the linker found them. */
extern struct descriptor __start___rseq_cs[], __stop___rseq_cs[];

static uint32_t *volatile planted; /* the instruction that is a breakpoint now; NULL: none */
static uint32_t replaced;
static uint32_t *place,
    *commit; /* where it is planted at first; where once more, if the sequence starts again */
static unsigned hits_here;

static void write_instruction(uint32_t *at, uint32_t instruction)
{
    *at = instruction;
    __builtin___clear_cache((char *)at, (char *)(at + 1));
}

static void plant(uint32_t *at)
{
    replaced = *at;
    planted = at;
    write_instruction(at, 0xd4200000); /* brk #0 */
}

static void pull_out(void)
{
    if (planted != NULL)
        write_instruction(planted, replaced);
    planted = NULL;
}

static void on_breakpoint(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    if (planted == NULL || pc_of(context) != (uintptr_t)planted)
        stop("a breakpoint that is not ours");
    pull_out();
    if (on_hit(context) && hits == 1)
        plant(commit); /* is it armed again? */
}

static bool hit(void)
{
    begin(trial.have);
    hits = 0;
    plant(place);
    operate(&thread, trial.operation, trial.n);
    pull_out();
    check(all_there(), (unsigned long)(uintptr_t)place);
    return hits != 0;
}

static void before_the_instruction(void)
{
    for (trial.event = 0; trial.event < EVENTS && hit(); trial.event++)
        hits_here++;
}

/* Each of the five operations has at least one sequence, and of a sequence that is used at all each
 * instruction is interrupted, and the place behind the last. */
Test(sequence, survives_an_interruption_before_each_instruction)
{
    struct sigaction action = {.sa_sigaction = on_breakpoint, .sa_flags = SA_SIGINFO};
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    unsigned used = 0, instructions = 0;
    start();
    sigaction(SIGTRAP, &action, NULL);
    for (struct descriptor *each = __start___rseq_cs; each < __stop___rseq_cs; each++) {
        uintptr_t first = each->start & ~(page - 1), last = each->start + each->length;
        unsigned reached = 0, length = 0;
        commit = (uint32_t *)(last - sizeof *commit);
        cr_assert_eq(mprotect((void *)first, last + 4 - first, PROT_READ | PROT_WRITE | PROT_EXEC), 0);
        for (place = (uint32_t *)(uintptr_t)each->start; (uintptr_t)place <= last; place++, length++) {
            hits_here = 0;
            every_operation(before_the_instruction);
            reached += hits_here != 0;
            if (reached == 0)
                break; /* a sequence that no operation uses */
        }
        if (reached != 0) {
            cr_assert_eq(reached, length, "%u of the %u places of a sequence were reached", reached, length);
            used++;
            instructions += length;
        }
    }
    fprintf(stderr, "%u sequences, %u places\n", used, instructions);
    cr_assert_geq(used, (unsigned)OPERATIONS);
    finish();
}

#endif

/* --- at random --- */

static uint64_t dice = 88172645463325252u, handler_dice = 362436069u;

static unsigned roll(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (unsigned)(*state >> 32);
}

static unsigned restarts, interruptions;

static void on_timer(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    interruptions++;
    restarts += interrupt(context);
    for (unsigned n = roll(&handler_dice) % 8; n > 0; n--)
        happen(roll(&handler_dice) % EVENTS);
}

Test(sequence, survives_interruptions_at_random)
{
    struct sigaction action = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO};
    struct itimerval often = {{0, 50}, {0, 50}}, never = {{0, 0}, {0, 0}};
    const char *seconds = getenv("WEIR_SEQUENCE_SECONDS");
    time_t end = time(NULL) + (seconds != NULL ? atoi(seconds) : 1);
    uint64_t operations = 0;

    start();
    begin(CAPACITY);
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    do
        for (unsigned i = 0; i < 1000; i++, operations++) {
            unsigned number = roll(&dice);
            operate(&thread, number % OPERATIONS, 1 + (number >> 8) % MOST);
        }
    while (time(NULL) <= end);
    setitimer(ITIMER_REAL, &never, NULL);
    signal(SIGALRM, SIG_IGN);
    fprintf(stderr, "%llu operations, %u interruptions, %u restarts\n", (unsigned long long)operations,
            interruptions, restarts);
    cr_assert(all_there(), "an object was lost, or is there twice");
    cr_assert_gt(interruptions, 0u);
    finish();
}

#endif
