/* SPDX-License-Identifier: MIT */
/*
 * Everything at once, for as long as one likes: soak [THREADS [SEED|clock [MILLISECONDS]]]; or
 * test/run --soak MINUTES.
 *
 * A page cache; another one that checks, keeps sites and zeroes; a cache whose backend is the first; a
 * reclaimer that frees pages of the first and takes its magazines' memory from it. Threads that come and go,
 * change CPUs, are interrupted by a signal handler, fork, fill the whole range, drain, decay, shrink, and
 * read what others defer the free of, all while the helper thread decays.
 *
 * Whoever has a page writes a pattern to its first and its last word. After each round all threads end,
 * everything is freed and taken apart, every page is counted, and the next round begins with other sizes, and
 * with the other source of grace periods.
 */
#include "stress/stress.h"

#define FIXTURE_FAIL stress_fail
#include "fork.h"
#include "stress/readers.h"
#include "weir/free_rcu.h"
#include "weir/page_cache.h"
#include "weir/shrinker.h"

#include <sys/wait.h>
#include <urcu/urcu-qsbr.h>

#if defined(__SANITIZE_ADDRESS__)
#define SOAK_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SOAK_ASAN 1
#endif
#endif
#ifndef SOAK_ASAN
#define SOAK_ASAN 0
#endif

enum { PAGE = 4096, WORDS = PAGE / 8, RANGE = 1024, MOST_HELD = 64, MOST_EXTENTS = 4, PUBLISHED = 16 };
enum { ROUND_MILLISECONDS = 10000, ROUNDS_LEAST = 3, LONGEST_LIFE = 20000 };

/* Where a page comes from, and goes back to. */
enum kind { PLAIN, CACHED, CHECKED, KINDS };

static struct weir_page_cache *pages, *checked;
static struct weir_cache *cache; /* of pages of `pages` */
static struct weir_reclaimer *reclaimer;

static unsigned owned[2][RANGE]; /* by page number; the second: of `checked` */
static char *published[KINDS][PUBLISHED];
static unsigned cpus[64], nr_cpus;
static bool on_qsbr; /* the source of grace periods: liburcu-qsbr, or the one in readers.h */
static unsigned round_number;

static struct {
    uint64_t lives, steps, signals, deferred, fills, children, unusable;
} counted;

static void count(uint64_t *counter)
{
    weir_fetch_add_relaxed(counter, UINT64_C(1)); /* a statistic */
}

struct hand {
    void *pages[KINDS][MOST_HELD];
    size_t n[KINDS];
    struct {
        char *first; /* NULL: none */
        size_t pages;
    } extents[KINDS][MOST_EXTENTS];
    uint64_t random;
};

/* --- readers of either source --- */

static void begin_reading(void)
{
    if (on_qsbr)
        urcu_qsbr_register_thread();
    else
        reader_register();
}

static void end_reading(void)
{
    weir_grace_annotate_quiescent();
    if (on_qsbr)
        urcu_qsbr_unregister_thread();
    else
        reader_unregister();
}

static void quiescent(void)
{
    weir_grace_annotate_quiescent();
    if (on_qsbr)
        urcu_qsbr_quiescent_state();
    else
        reader_quiescent();
}

static void go_offline(void)
{
    weir_grace_annotate_quiescent();
    if (on_qsbr)
        urcu_qsbr_thread_offline();
    else
        reader_offline(NULL);
}

static void go_online(void)
{
    if (on_qsbr)
        urcu_qsbr_thread_online();
    else
        reader_online(NULL);
}

static bool is_reading(void)
{
    return on_qsbr ? urcu_qsbr_read_ongoing() != 0 : reader_is_online != 0;
}

/* --- whose page it is --- */

static struct weir_page_cache *range_of(enum kind kind)
{
    return kind == CHECKED ? checked : pages;
}

static unsigned *owner_of(enum kind kind, const void *page)
{
    return &owned[kind == CHECKED][(uintptr_t)page / PAGE % RANGE];
}

static uint64_t *first_word(void *page)
{
    return page;
}

static uint64_t *last_word(void *page)
{
    return (uint64_t *)page + WORDS - 1;
}

static void *own(enum kind kind, void *page, uint64_t pattern)
{
    const uint64_t *word = page;
    if ((uintptr_t)page % PAGE != 0)
        stress_fail("page %p is not aligned", page);
    if (weir_xchg_relaxed(owner_of(kind, page), 1u) != 0)
        stress_fail("page %p was handed out twice", page);
    for (unsigned i = 0; kind == CHECKED && i < WORDS; i++)
        if (word[i] != 0)
            stress_fail("page %p is not zero at byte %u", page, i * 8);
    *first_word(page) = pattern;
    *last_word(page) = ~pattern;
    return page;
}

static void *disown(enum kind kind, void *page)
{
    if (*first_word(page) != ~*last_word(page))
        stress_fail("somebody wrote to page %p, which was not his", page);
    if (weir_xchg_relaxed(owner_of(kind, page), 0u) != 1)
        stress_fail("page %p had two owners", page);
    return page;
}

static void hold(struct hand *hand, enum kind kind, void *page)
{
    hand->pages[kind][hand->n[kind]++] = own(kind, page, stress_random(&hand->random));
}

/* One that is to be freed, not yet disowned; NULL: there is none. */
static void *let_go(struct hand *hand, enum kind kind)
{
    return hand->n[kind] != 0 ? hand->pages[kind][--hand->n[kind]] : NULL;
}

static size_t room(const struct hand *hand, enum kind kind, size_t n)
{
    return n < MOST_HELD - hand->n[kind] ? n : MOST_HELD - hand->n[kind];
}

/* --- alloc and free --- */

static void *alloc(enum kind kind)
{
    return kind == CACHED ? weir_cache_alloc(cache) : weir_page_alloc(range_of(kind));
}

static void *alloc_nolock(enum kind kind)
{
    return kind == CACHED ? weir_cache_alloc_nolock(cache) : weir_page_alloc_nolock(range_of(kind));
}

static void give_back(enum kind kind, void *page)
{
    if (kind == CACHED)
        weir_cache_free(cache, page);
    else
        weir_page_free(range_of(kind), page);
}

static void take(struct hand *hand, enum kind kind)
{
    void *page = room(hand, kind, 1) != 0 ? alloc(kind) : NULL;
    if (page)
        hold(hand, kind, page);
}

static void take_nolock(struct hand *hand, enum kind kind)
{
    void *page = room(hand, kind, 1) != 0 ? alloc_nolock(kind) : NULL;
    if (page)
        hold(hand, kind, page);
}

static void take_array(struct hand *hand, enum kind kind, size_t n)
{
    void *array[MOST_HELD] = {NULL};
    n = room(hand, kind, n);
    size_t said = kind == CACHED ? weir_cache_alloc_bulk(cache, n, array)
                                 : weir_page_alloc_bulk_array(range_of(kind), n, array);
    if (said > n)
        stress_fail("%zu pages were asked for, %zu came", n, said);
    for (size_t i = 0; i < said; i++) /* one run of NULLs: it is filled from the front */
        hold(hand, kind, array[i]);
    for (size_t i = said; kind != CACHED && i < n; i++)
        if (array[i])
            stress_fail("alloc_bulk_array says %zu, but fills more", said);
}

static void take_list(struct hand *hand, enum kind kind, size_t n)
{
    WEIR_LLIST_HEAD(list);
    size_t found = 0, said;
    if (kind == CACHED)
        return;
    said = weir_page_alloc_bulk_list(range_of(kind), room(hand, kind, n), &list);
    for (struct weir_llist_node *node = weir_llist_del_all(&list), *next; node; node = next, found++) {
        next = weir_llist_next(node);
        *first_word(node) = 0; /* the link */
        hold(hand, kind, node);
    }
    if (said != found)
        stress_fail("alloc_bulk_list says %zu, but the list has %zu", said, found);
}

static void give(struct hand *hand, enum kind kind)
{
    void *page = let_go(hand, kind);
    if (page)
        give_back(kind, disown(kind, page));
}

static void give_nolock(struct hand *hand, enum kind kind)
{
    void *page = kind != CACHED ? let_go(hand, kind) : NULL;
    if (page)
        weir_page_free_nolock(range_of(kind), disown(kind, page));
}

static void give_bulk(struct hand *hand, enum kind kind, size_t n)
{
    void *array[MOST_HELD], *page;
    size_t i = 0;
    while (i < n && i < MOST_HELD && (page = let_go(hand, kind)) != NULL)
        array[i++] = disown(kind, page);
    if (kind == CACHED)
        weir_cache_free_bulk(cache, i, array);
    else
        weir_page_free_bulk(range_of(kind), i, array);
}

static void free_extent(enum kind kind, char *first, size_t n)
{
    for (size_t i = 0; i < n; i++)
        disown(kind, first + i * PAGE);
    weir_extent_free(range_of(kind), first, n);
}

static char *alloc_extent(enum kind kind, size_t n, uint64_t *random)
{
    char *first = weir_extent_alloc(range_of(kind), n);
    for (size_t i = 0; first && i < n; i++)
        own(kind, first + i * PAGE, stress_random(random));
    return first;
}

static void give_extent(struct hand *hand, enum kind kind, unsigned which)
{
    if (hand->extents[kind][which].first)
        free_extent(kind, hand->extents[kind][which].first, hand->extents[kind][which].pages);
    hand->extents[kind][which].first = NULL;
}

static void take_extent(struct hand *hand, enum kind kind, unsigned which, size_t n)
{
    give_extent(hand, kind, which);
    hand->extents[kind][which].first = alloc_extent(kind, n, &hand->random);
    hand->extents[kind][which].pages = n;
}

static void give_everything(struct hand *hand)
{
    for (enum kind kind = PLAIN; kind < KINDS; kind++) {
        for (unsigned i = 0; i < MOST_EXTENTS; i++)
            give_extent(hand, kind, i);
        while (hand->n[kind])
            give(hand, kind);
    }
}

/* --- deferred free --- */

/* The head is where no reader looks. */
static struct weir_rcu_head *head_of(void *page)
{
    return (struct weir_rcu_head *)(void *)((char *)page + PAGE / 2);
}

static void through_reclaimer(void *page, uint64_t dice)
{
    if (dice % 4 == 0) {
        if (weir_free_rcu_mightsleep(reclaimer, page))
            stress_fail("mightsleep refused a page");
        return;
    }
    if (dice % 4 == 1 && weir_free_rcu_try(reclaimer, page))
        return;
    weir_free_rcu(reclaimer, page, head_of(page));
}

static void defer_free(enum kind kind, void *page, uint64_t dice)
{
    count(&counted.deferred);
    disown(kind, page);
    if (kind == CACHED)
        weir_cache_free_rcu(cache, page);
    else if (kind == CHECKED || (dice & 1) != 0)
        weir_page_free_rcu(range_of(kind), page);
    else
        through_reclaimer(page, dice >> 1);
}

static void publish(struct hand *hand, enum kind kind, uint64_t dice)
{
    /* Release: readers find the pattern. Acquire: the old one, to free it. */
    char *old = weir_xchg_acq_rel(&published[kind][dice % PUBLISHED], (char *)let_go(hand, kind));
    if (old)
        defer_free(kind, old, dice >> 8);
}

/* Several at once, as an array. */
static void unpublish(uint64_t dice)
{
    void *olds[PUBLISHED];
    size_t n = 0, taken;
    for (unsigned i = 0; i < dice % PUBLISHED; i++) {
        char *old = weir_xchg_acq_rel(&published[PLAIN][i], NULL);
        if (old)
            olds[n++] = disown(PLAIN, old);
    }
    taken = dice >> 8 & 1 ? weir_free_rcu_bulk_mightsleep(reclaimer, n, olds)
                          : weir_free_rcu_bulk_try(reclaimer, n, olds);
    for (size_t i = 0; i < n - taken; i++)
        weir_free_rcu(reclaimer, olds[i], head_of(olds[i]));
}

static void read_published(enum kind kind, uint64_t dice)
{
    char *page = weir_load_acquire(&published[kind][dice % PUBLISHED]);
    if (!page)
        return;
    uint64_t pattern = *first_word(page);
    if ((dice >> 8 & 15) == 0)
        fixture_sleep((unsigned)(dice >> 12 & 63));
    else if ((dice >> 8 & 15) == 1)
        sched_yield();
    if (*first_word(page) != pattern || *last_word(page) != ~pattern)
        stress_fail("page %p was used again while a reader was looking at it", (void *)page);
}

/* --- the handler --- */

static void interrupt(void)
{
    static uint64_t number;
    int error = errno;
    struct hand hand = {.random = weir_fetch_add_relaxed(&number, UINT64_C(1)) + 1};
    enum kind kind = (enum kind)(hand.random % KINDS);
    count(&counted.signals);
    if (kind == CHECKED && !is_reading()) /* it was promised that all its users are */
        kind = PLAIN;
    take(&hand, kind);
    take_nolock(&hand, kind);
    take_nolock(&hand, PLAIN);
    take_array(&hand, kind, 4);
    take_list(&hand, kind, 3);
    take_extent(&hand, kind == CHECKED ? kind : PLAIN, 0, hand.random % 9 + 1);
    give(&hand, kind);
    give_bulk(&hand, kind, 3);
    give_nolock(&hand, kind);
    void *page = hand.random % 4 == 0 ? let_go(&hand, PLAIN) : NULL;
    if (page)
        weir_free_rcu(reclaimer, disown(PLAIN, page), head_of(page));
    give_everything(&hand);
    errno = error;
}

/* --- what happens seldom --- */

/* The whole range, page by page or in extents, and all back. */
static void fill(struct hand *hand, enum kind kind, uint64_t dice)
{
    void *all[RANGE];
    size_t n = 0;
    count(&counted.fills);
    while (n < RANGE && (all[n] = alloc(kind)) != NULL) {
        own(kind, all[n], stress_random(&hand->random));
        n++;
    }
    if (n == RANGE && kind != CACHED && alloc(kind))
        stress_fail("there are more pages than the range has");
    if (dice & 1)
        sched_yield();
    for (size_t i = 0; i < n; i++) {
        if (dice & 2)
            defer_free(kind, all[i], dice >> 8);
        else
            give_back(kind, disown(kind, all[i]));
    }
}

static void fill_with_extents(struct hand *hand, enum kind kind)
{
    char *first[RANGE];
    size_t pages_of[RANGE], n = 0;
    count(&counted.fills);
    do
        pages_of[n] = stress_random(&hand->random) % 64 + 1;
    while ((first[n] = alloc_extent(kind, pages_of[n], &hand->random)) != NULL && ++n < RANGE);
    while (n-- != 0)
        free_extent(kind, first[n], pages_of[n]);
}

static enum weir_drain any_drain(enum kind kind, uint64_t dice)
{
    if (kind == CHECKED && (dice & 1) != 0)
        return WEIR_DRAIN_QUIET;
    return fixture_locked() ? WEIR_DRAIN_LOCK : WEIR_DRAIN_EXPEDITED;
}

static void drain(enum kind kind, uint64_t dice)
{
    unsigned cpu = cpus[(dice >> 1) % nr_cpus];
    enum weir_drain how = any_drain(kind, dice);
    if (dice >> 8 & 1)
        kind == CACHED ? weir_cache_drain_cpu(cache, cpu, how)
                       : weir_page_cache_drain_cpu(range_of(kind), cpu, how);
    else
        kind == CACHED ? weir_cache_drain_all(cache, how) : weir_page_cache_drain_all(range_of(kind), how);
    if (errno)
        stress_fail("a drain says %s", strerror(errno));
}

static void decay(enum kind kind)
{
    if (kind == CACHED)
        weir_cache_decay(cache);
    else if (weir_page_cache_decay(range_of(kind)) % PAGE != 0)
        stress_fail("decay gave part of a page back");
}

static void look_at_statistics(enum kind kind)
{
    struct weir_page_cache_stats stats;
    struct weir_reclaimer_stats reclaimed;
    weir_page_cache_stats(range_of(kind), &stats);
    if (stats.frames > stats.capacity || stats.frames_peak > stats.capacity)
        stress_fail("%zu of %zu pages are out, at most there were %zu", stats.frames, stats.capacity,
                    stats.frames_peak);
    weir_cache_stats(cache, &stats.cache);
    weir_reclaimer_stats(reclaimer, &reclaimed);
    weir_shrinkable();
}

static void wait_for_grace(uint64_t dice)
{
    int error;
    switch (dice % 4) {
    case 0:
        error = weir_page_cache_rcu_barrier(pages);
        break;
    case 1:
        error = weir_page_cache_rcu_barrier(checked);
        break;
    case 2:
        error = weir_cache_rcu_barrier(cache);
        break;
    default:
        error = weir_free_rcu_barrier(reclaimer);
    }
    if (error)
        stress_fail("a barrier says %s", strerror(-error));
}

/* --- fork() --- */

enum { CHILD_FAILED = 1, CHILD_USED_IT = 10, CHILD_COULD_NOT };

/* Only this thread came along; nobody else is a reader any more. */
static void bury_readers(void)
{
    for (unsigned i = 0; i < READERS_MAX; i++)
        if (&readers[i] != reader_me)
            readers[i].seen = 0;
}

static void child_waits_for_grace(void)
{
    /* liburcu's readers cannot be buried: it may say so. */
    int error = weir_page_cache_rcu_barrier(pages);
    if (error == 0)
        error = weir_page_cache_rcu_barrier(checked);
    if (error != 0 && !(on_qsbr && error == -EOWNERDEAD))
        stress_fail("in a child a barrier says %s", strerror(-error));
}

static void child_uses_it(struct hand *hand)
{
    for (unsigned i = 0; i < 300; i++) {
        uint64_t dice = stress_random(&hand->random);
        enum kind kind = (enum kind)((dice >> 8) % KINDS);
        take(hand, kind);
        take_nolock(hand, kind);
        take_array(hand, kind, dice >> 16 & 15);
        if (kind != CACHED)
            take_extent(hand, kind, dice >> 20 & (MOST_EXTENTS - 1), (dice >> 24) % 16 + 1);
        give_nolock(hand, kind);
        give_bulk(hand, kind, dice >> 28 & 31);
    }
    drain(PLAIN, 0);
    give_everything(hand);
    child_waits_for_grace();
}

/* AddressSanitizer's own locks stay as they were at the fork: nothing that might start a thread. */
static void child_takes(struct hand *hand)
{
    for (unsigned i = 0; i < 100; i++) {
        take(hand, PLAIN);
        take_nolock(hand, CHECKED);
        give_nolock(hand, PLAIN);
        give_nolock(hand, CHECKED);
        take_array(hand, CHECKED, i % 4);
    }
}

static int child(struct hand *hand)
{
    signal(SIGALRM, SIG_DFL);
    alarm(2 * FIXTURE_PATIENCE_SECONDS);
    weir__fork_patience = 1000 * FIXTURE_PATIENCE_SECONDS; /* to be sure of the child's grace periods */
    if (on_qsbr)
        weir__fork_patience = 1000; /* ... which may not be there */
    bury_readers();
    if (!weir_cache_usable(cache)) {
        if (weir_page_alloc(pages) || weir_page_alloc_nolock(checked) || weir_cache_alloc(cache))
            stress_fail("a child that cannot use anything was given a page");
        return CHILD_COULD_NOT;
    }
    if (SOAK_ASAN)
        child_takes(hand);
    else
        child_uses_it(hand);
    return CHILD_USED_IT;
}

static void have_child(struct hand *hand)
{
    int status;
    if (WEIR_TSAN) /* it allows no threads in a child */
        return;
    pid_t pid = fork();
    if (pid == 0)
        _exit(child(hand));
    if (pid < 0)
        stress_fail("fork: %s", strerror(errno));
    go_offline();
    while (waitpid(pid, &status, 0) != pid)
        if (errno != EINTR)
            stress_fail("waitpid: %s", strerror(errno));
    go_online();
    if (WIFSIGNALED(status))
        stress_fail("a child died of signal %d", WTERMSIG(status));
    if (WEXITSTATUS(status) < CHILD_USED_IT)
        stress_fail("a child failed: %d", WEXITSTATUS(status));
    count(&counted.children);
    if (WEXITSTATUS(status) == CHILD_COULD_NOT)
        count(&counted.unusable);
}

/* --- threads --- */

static void seldom(struct hand *hand, enum kind kind, uint64_t dice)
{
    switch (dice % 16) {
    case 0:
        fixture_change_cpu(cpus, nr_cpus, dice >> 8);
        break;
    case 1:
    case 2:
        drain(kind, dice >> 8);
        break;
    case 3:
        wait_for_grace(dice >> 8);
        break;
    case 4:
    case 5:
        decay(kind);
        break;
    case 6:
        weir_shrink((dice >> 8 & 7) != 0 ? (size_t)(dice >> 12 & 255) * PAGE : SIZE_MAX);
        break;
    case 7:
        weir_free_rcu_flush(reclaimer);
        break;
    case 8:
        weir_reclaimer_poll(reclaimer);
        break;
    case 9:
        have_child(hand);
        break;
    case 10:
        fill(hand, kind, dice >> 8);
        break;
    case 11:
        if (kind != CACHED)
            fill_with_extents(hand, kind);
        break;
    case 12:
        unpublish(dice >> 8);
        break;
    case 13:
        give_everything(hand);
        break;
    default:
        look_at_statistics(kind);
    }
}

static void step(struct hand *hand)
{
    uint64_t dice = stress_random(&hand->random);
    enum kind kind = (enum kind)((dice >> 4) % KINDS);
    unsigned which = dice >> 32 & (MOST_EXTENTS - 1);
    switch (dice & 15) {
    case 0:
        take_array(hand, kind, dice >> 8 & 31);
        break;
    case 1:
        take_list(hand, kind, dice >> 8 & 31);
        break;
    case 2:
    case 3:
        give_bulk(hand, kind, dice >> 8 & 31);
        break;
    case 4:
    case 5:
        publish(hand, kind, dice >> 8);
        break;
    case 6:
    case 7:
        read_published(kind, dice >> 8);
        break;
    case 8:
        if ((dice >> 8 & 63) == 0)
            seldom(hand, kind, dice >> 14);
        break;
    case 9:
        take_nolock(hand, kind);
        break;
    case 10:
        give_nolock(hand, kind);
        break;
    case 11:
        if (kind != CACHED && (dice >> 8 & 1) != 0)
            take_extent(hand, kind, which, (dice >> 16) % ((dice >> 36 & 15) != 0 ? 8 : 256) + 1);
        else
            give_extent(hand, kind, which);
        break;
    case 12:
    case 13:
        give(hand, kind);
        break;
    default:
        take(hand, kind);
    }
    if ((dice >> 40 & 3) == 0)
        quiescent();
}

static void signals(int how)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    pthread_sigmask(how, &set, NULL);
}

/* A thread that ends soon; what it has goes to the next one. */
static void *live(void *argument)
{
    struct hand *hand = argument;
    uint64_t steps = 0, most = stress_random(&hand->random) % LONGEST_LIFE + 1;
    signals(SIG_UNBLOCK);
    begin_reading();
    for (; steps < most && !stress_stopped(); steps++)
        step(hand);
    end_reading();
    count(&counted.lives);
    weir_fetch_add_relaxed(&counted.steps, steps); /* a statistic */
    return NULL;
}

/* One after the other. The signals are for them. */
static void *generations(void *argument)
{
    /* Not on a stack: in a child the stacks of threads that did not come along are used again. */
    static struct hand hands[STRESS_MAX_THREADS];
    unsigned number = (unsigned)(uintptr_t)argument;
    struct hand *hand = &hands[number];
    hand->random = stress_seed(round_number * STRESS_MAX_THREADS + number);
    signals(SIG_BLOCK);
    while (!stress_stopped())
        pthread_join(fixture_thread(live, hand), NULL);
    begin_reading();
    give_everything(hand);
    end_reading();
    return NULL;
}

/* --- a round --- */

static size_t backend_alloc_pages(void *backend, size_t n, void *array[])
{
    memset(array, 0, n * sizeof array[0]);
    return weir_page_alloc_bulk_array(backend, n, array);
}

static void backend_free_pages(void *backend, size_t n, void *array[])
{
    weir_page_free_bulk(backend, n, array);
}

static void create_page_caches(struct weir_grace *grace, uint64_t dice)
{
    static const size_t batches[] = {16, 1, 60, 124};
    struct weir_page_cache_config config = WEIR_PAGE_CACHE_CONFIG_INIT;
    config.capacity = (size_t)RANGE * PAGE;
    config.batch = batches[dice & 3];
    config.high_fraction = 8;
    config.min = dice >> 2 & 1 ? 20 : 0;
    config.grace = grace;
    config.decay_milliseconds = (unsigned)(dice >> 3 & 7) + 1;
    config.huge_pages = dice >> 6 & 1 ? WEIR_HUGE_PAGES_ADVISE : WEIR_HUGE_PAGES_NEVER;
    config.name = "soak";
    if (weir_page_cache_create(&pages, &config))
        stress_fail("cannot create the page cache");
    config.batch = batches[dice >> 8 & 3];
    config.registered_users = true;
    config.check = config.sites = true;
    config.zero = (dice >> 10 & 3) != 0 ? WEIR_ZERO_ON_ALLOC : WEIR_ZERO_ON_FREE;
    config.name = "soak checked";
    if (weir_page_cache_create(&checked, &config))
        stress_fail("cannot create the page cache that checks");
}

static void create_cache(struct weir_grace *grace, uint64_t dice)
{
    static const struct weir_cache_ops ops = {backend_alloc_pages, backend_free_pages};
    struct weir_cache_config config = WEIR_CACHE_CONFIG_INIT;
    config.ops = &ops;
    config.backend = pages;
    config.capacity = dice & 1 ? 4 : 12;
    config.high = 100;
    config.grace = grace;
    config.object_size = PAGE;
    config.decay_milliseconds = 5;
    if (weir_cache_create(&cache, &config))
        stress_fail("cannot create the cache");
}

static void create_reclaimer(struct weir_grace *grace, uint64_t dice)
{
    struct weir_reclaimer_config config = WEIR_RECLAIMER_CONFIG_INIT;
    struct weir_block_source source;
    weir_page_cache_block_source(pages, &source);
    config.free_bulk = backend_free_pages;
    config.arg = pages;
    config.grace = grace;
    config.capacity = dice & 1 ? 8 : 40;
    config.max_pending = 20 * config.capacity;
    config.policy = dice & 2 ? WEIR_PENDING_WAIT : WEIR_PENDING_HELP;
    config.reserve = 0;
    config.block_source = &source;
    config.flush_milliseconds = 5;
    if (weir_reclaimer_create(&reclaimer, &config))
        stress_fail("cannot create the reclaimer");
}

static struct weir_grace *create_everything(void)
{
    uint64_t random = stress_seed(round_number * STRESS_MAX_THREADS + STRESS_MAX_THREADS - 1);
    struct weir_grace *grace;
    on_qsbr = round_number % 2 != 0;
    if (!on_qsbr)
        grace = readers_grace();
    else if (weir_grace_qsbr(&grace))
        stress_fail("there is no liburcu-qsbr");
    create_page_caches(grace, stress_random(&random));
    create_cache(grace, stress_random(&random));
    create_reclaimer(grace, stress_random(&random));
    return grace;
}

/* Frames must be what they were at creation. The helper thread may have some in its hands for a moment. */
static void count_pages(enum kind kind)
{
    struct weir_page_cache_stats stats;
    for (unsigned i = 0; i < 1000; i++) {
        weir_page_cache_drain_all(range_of(kind), any_drain(kind, 0));
        weir_page_cache_stats(range_of(kind), &stats);
        if (stats.extents != 0 || stats.extent_pages != 0)
            stress_fail("at rest %zu extents are out", stats.extents);
        if (stats.frames == stats.block_pages && stats.cache.cached == 0 && stats.extent_pool_pages == 0 &&
            stats.parked == 0)
            return;
        fixture_sleep(10000);
    }
    stress_fail("after a drain %zu pages are out, %zu cached, %zu in idle extents, %zu hold magazines",
                stats.frames, stats.cache.cached, stats.extent_pool_pages, stats.block_pages);
}

static void end_deferred(void)
{
    begin_reading();
    for (enum kind kind = PLAIN; kind < KINDS; kind++)
        for (unsigned i = 0; i < PUBLISHED; i++)
            if (published[kind][i]) {
                give_back(kind, disown(kind, published[kind][i]));
                published[kind][i] = NULL;
            }
    end_reading();
    for (unsigned i = 0; i < 4; i++)
        wait_for_grace(i);
    for (unsigned i = 0; i < RANGE; i++)
        if (owned[0][i] || owned[1][i])
            stress_fail("page %u was forgotten", i);
}

static void destroy_everything(struct weir_grace *grace)
{
    struct weir_reclaimer_stats reclaimed;
    struct weir_cache_stats stats;
    weir_reclaimer_stats(reclaimer, &reclaimed);
    if (reclaimed.pending != 0 || reclaimed.chained != 0)
        stress_fail("after a barrier %zu objects are pending, %zu chained", reclaimed.pending,
                    reclaimed.chained);
    weir_cache_shrink(cache);
    weir_cache_stats(cache, &stats);
    if (stats.out != 0 || stats.waiting_objects != 0)
        stress_fail("at rest %zu objects are out, %zu waiting", stats.out, stats.waiting_objects);
    if (weir_reclaimer_destroy(reclaimer) || weir_cache_destroy(cache))
        stress_fail("the reclaimer, or the cache, cannot be destroyed");
    count_pages(PLAIN);
    count_pages(CHECKED);
    if (weir_page_cache_destroy(checked) || weir_page_cache_destroy(pages))
        stress_fail("pages are out, says destroy");
    weir_grace_put(grace);
}

static void run_round(unsigned of, unsigned milliseconds)
{
    struct weir_grace *grace = create_everything();
    memset(&counted, 0, sizeof counted);
    stress_run(generations, milliseconds, interrupt);
    end_deferred();
    destroy_everything(grace);
    printf("round %u of %u: %llu steps in %llu threads, %llu signals, %llu deferred, %llu times full, %llu "
           "children (%llu could use nothing)\n",
           round_number + 1, of, (unsigned long long)counted.steps, (unsigned long long)counted.lives,
           (unsigned long long)counted.signals, (unsigned long long)counted.deferred,
           (unsigned long long)counted.fills, (unsigned long long)counted.children,
           (unsigned long long)counted.unusable);
    fflush(stdout);
}

/* The library has stopped the program: how to replay it, once. */
static char replay[256];

static void on_death(int number)
{
    ssize_t written = write(STDERR_FILENO, replay, strlen(replay));
    (void)written;
    raise(number);
}

static void tell_replay_on_death(void)
{
    const int fatal[] = {SIGABRT, SIGSEGV, SIGBUS};
    struct sigaction action = {.sa_handler = on_death, .sa_flags = (int)SA_RESETHAND};
    snprintf(replay, sizeof replay, "replay: %s %u %llu %u\n", stress.program, stress.threads,
             (unsigned long long)stress.seed, stress.milliseconds);
    /* The sanitizers have handlers of their own for the others. */
    for (unsigned i = 0; i < (SOAK_ASAN || WEIR_TSAN ? 1 : 3); i++)
        sigaction(fatal[i], &action, NULL);
}

int main(int argc, char **argv)
{
    stress_start(argc, argv);
    tell_replay_on_death();
    nr_cpus = fixture_cpus(cpus, 64);
    weir_percpu_init();
    puts(weir_percpu_reason());
    unsigned rounds = stress.milliseconds / ROUND_MILLISECONDS;
    if (rounds < ROUNDS_LEAST)
        rounds = ROUNDS_LEAST;
    for (; round_number < rounds; round_number++)
        run_round(rounds, stress.milliseconds / rounds);
    return 0;
}
