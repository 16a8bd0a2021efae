/* SPDX-License-Identifier: MIT */
/* What a cache says of itself: exact numbers for sequences worked out by hand, and both ways to print them.
 * */
#include "cache_fixture.h"

#include <inttypes.h>

enum { MOST = 2 }; /* magazines in the depot; at least one */

static void start_counting(bool open)
{
    prepare(open);
    struct weir_cache_config config = config_of(CAPACITY, MOST * CAPACITY);
    config.name = "objects";
    create(&config, &(struct weir__cache_surroundings){NULL, imitate(1)});
}

/* Every member of struct weir_cache_stats. */
static const struct member {
    const char *name;
    size_t offset, size;
} members[] = {
#define MEMBER(name)                                                                                         \
    {                                                                                                        \
#name, offsetof(struct weir_cache_stats, name), sizeof(((struct weir_cache_stats *)0)->name)         \
    }
    MEMBER(cached),        MEMBER(out),          MEMBER(waiting),       MEMBER(waiting_objects),
    MEMBER(limit),         MEMBER(fast_allocs),  MEMBER(fast_frees),    MEMBER(slow_allocs),
    MEMBER(slow_frees),    MEMBER(refills),      MEMBER(depot_hits),    MEMBER(stolen),
    MEMBER(depot_misses),  MEMBER(flushes),      MEMBER(spills),        MEMBER(allocated),
    MEMBER(alloc_calls),   MEMBER(freed),        MEMBER(free_calls),    MEMBER(decayed),
    MEMBER(drained),       MEMBER(rcu_freed),    MEMBER(rcu_waits),     MEMBER(raises),
    MEMBER(periods),       MEMBER(blocks.total), MEMBER(blocks.in_use), MEMBER(blocks.grown),
    MEMBER(blocks.misses),
#undef MEMBER
};
enum { MEMBERS = sizeof members / sizeof members[0], NOT_BLOCKS = MEMBERS - 4 };

static uint64_t value_of(const struct weir_cache_stats *stats, size_t i)
{
    const char *at = (const char *)stats + members[i].offset;
    uint64_t wide;
    size_t size;
    if (members[i].size == sizeof wide) {
        memcpy(&wide, at, sizeof wide);
        return wide;
    }
    memcpy(&size, at, sizeof size);
    return size;
}

/* All but the magazines are as expected; if `limit` is not said, the depot has its upper one. */
static void check(const char *when, struct weir_cache_stats expected)
{
    struct weir_cache_stats found = stats_now();
    if (expected.limit == 0)
        expected.limit = MOST * CAPACITY;
    for (size_t i = 0; i < NOT_BLOCKS; i++)
        cr_assert_eq(value_of(&found, i), value_of(&expected, i), "%s: %s is %" PRIu64 ", not %" PRIu64, when,
                     members[i].name, value_of(&found, i), value_of(&expected, i));
    check_counts(expected.waiting_objects);
}

Test(cache_stats, new_cache_has_done_nothing)
{
    start_counting(true);
    check("new", (struct weir_cache_stats){0});
    cr_assert_eq(stats_now().blocks.total, 0u);
    finish();
}

Test(cache_stats, alloc_and_free_one_by_one)
{
    struct weir_cache_stats now = {0};
    start_counting(true);

    take_n(1); /* a fresh magazine */
    now.out = 1, now.cached = 3;
    now.slow_allocs = now.refills = now.depot_misses = now.alloc_calls = 1, now.allocated = CAPACITY;
    check("first", now);

    take_n(3); /* on the fast path, which is not seen before the magazine leaves */
    now.out = 4, now.cached = 0;
    check("loaded is empty", now);

    take_n(1);
    now.out = 5, now.cached = 3;
    now.slow_allocs = now.refills = now.depot_misses = now.alloc_calls = 2, now.allocated = 2 * CAPACITY;
    now.fast_allocs = 3;
    check("second magazine", now);

    take_n(7); /* a third */
    now.out = 12, now.cached = 0;
    now.slow_allocs = now.refills = now.depot_misses = now.alloc_calls = 3, now.allocated = 3 * CAPACITY;
    now.fast_allocs = 6;
    check("third magazine is empty", now);

    give_n(4); /* into the third, which came with three */
    now.out = 8, now.cached = 4;
    check("third is full", now);

    give_n(1); /* the spare has room */
    now.out = 7, now.cached = 5;
    now.slow_frees = now.flushes = 1, now.fast_frees = 1;
    check("flush to the spare", now);

    give_n(4); /* loaded full, spare full: the depot gets one */
    now.out = 3, now.cached = 9;
    now.slow_frees = now.flushes = 2, now.fast_frees = 4;
    check("flush to the depot", now);

    give_n(3);
    now.out = 0, now.cached = 12;
    check("all back", now);

    take_n(5); /* the loaded one's four, then the spare's */
    now.out = 5, now.cached = 7;
    now.refills = 4, now.slow_allocs = 4, now.fast_allocs = 7; /* it came with one, and has gone to none */
    check("refill from the spare", now);

    take_n(4);
    now.out = 9, now.cached = 3;
    now.refills = 5, now.slow_allocs = 5, now.depot_hits = 1, now.fast_allocs = 10;
    check("refill from the depot", now);
    finish();
}

Test(cache_stats, spills_and_raises)
{
    struct weir_cache_stats now;
    start_counting(true);
    take_n(8 * CAPACITY);
    now = stats_now();
    give_n(8 * CAPACITY); /* two stay here, two in the depot */
    now.out = 0, now.cached = 4 * CAPACITY;
    now.slow_frees = now.flushes = 7;
    now.fast_frees = 1 + 6 * 3;
    now.spills = 4, now.freed = 4 * CAPACITY, now.free_calls = 4;
    check("spilled", now);

    weir_cache_shrink(cache);
    now.cached = 0, now.limit = CAPACITY;
    now.fast_frees += 3; /* what was still loaded */
    now.drained = 4 * CAPACITY, now.freed = 8 * CAPACITY, now.free_calls = 8;
    check("shrunk", now);

    take_n(4 * CAPACITY);
    give_n(4 * CAPACITY);
    cr_assert_eq(stats_now().spills, 5u);
    now = stats_now();
    take_n(3 * CAPACITY);
    cr_assert_eq(stats_now().raises, 0u);
    take_n(1); /* missed: it was the fifth */
    cr_assert_eq(stats_now().raises, 1u);
    cr_assert_eq(stats_now().limit, 2u * CAPACITY);
    cr_assert_eq(stats_now().depot_misses, now.depot_misses + 1);
    cr_assert_eq(stats_now().depot_hits, now.depot_hits + 1);
    check_counts(0);
    finish();
}

Test(cache_stats, bulk_is_counted_by_the_magazine)
{
    struct weir_cache_stats now = {0};
    start_counting(true);
    take_bulk(10); /* three fresh magazines; two objects are left */
    now.out = 10, now.cached = 2;
    now.refills = now.depot_misses = now.alloc_calls = 3, now.slow_allocs = 10, now.allocated = 12;
    check("alloc_bulk", now);

    give_bulk(
        10); /* two into the loaded one, four each into the spare and a new one; the first goes to the depot */
    now.out = 0, now.cached = 12;
    now.flushes = 2, now.slow_frees = 8, now.fast_frees = 2;
    check("free_bulk", now);
    finish();
}

Test(cache_stats, magazine_that_came_empty_and_left_full)
{
    struct weir_cache_stats now = {0};
    start_counting(true);
    take_bulk(2 * CAPACITY); /* both are empty when they are loaded */
    give_n(CAPACITY);
    give_n(1);
    now.out = 3, now.cached = 5;
    now.refills = now.depot_misses = now.alloc_calls = 2, now.slow_allocs = now.allocated = 8;
    now.flushes = now.slow_frees = 1, now.fast_frees = 4;
    check("flushed", now);
    finish();
}

Test(cache_stats, nolock_is_counted_as_alloc)
{
    struct weir_cache_stats now;
    start_counting(true);
    take_n(2 * CAPACITY);
    give_n(2 * CAPACITY);
    now = stats_now();
    for (unsigned i = 0; i <= CAPACITY; i++)
        held[nr_held++] = backend_own(&backend, weir_cache_alloc_nolock(cache));
    now.out = 5, now.cached = 3;
    now.refills++, now.slow_allocs++;
    now.fast_allocs += 1; /* the loaded one came with one */
    check("nolock", now);
    finish();
}

Test(cache_stats, what_waits_for_a_grace_period)
{
    struct weir_cache_stats now;
    start_counting(false);
    take_n(10);
    now = stats_now();
    weir_grace_start(gate.grace);
    gate_await_begun(&gate, 1); /* began too early for what follows */
    give_rcu(6);
    now.out = 4, now.waiting = 2, now.waiting_objects = 6;
    check("waiting", now);
    gate_open(&gate);
    weir_cache_rcu_barrier(cache);
    now = (struct weir_cache_stats){.periods = stats_now().periods,
                                    .out = 4,
                                    .cached = 8,
                                    .limit = now.limit,
                                    .fast_allocs = now.fast_allocs,
                                    .slow_allocs = now.slow_allocs,
                                    .refills = now.refills,
                                    .depot_misses = now.depot_misses,
                                    .allocated = now.allocated,
                                    .alloc_calls = now.alloc_calls,
                                    .rcu_freed = 6};
    cr_assert_geq(now.periods, 2u);
    check("over", now);
    finish();
}

Test(cache_stats, decay_is_counted)
{
    struct weir_cache_stats now;
    start_counting(true);
    take_n(4 * CAPACITY);
    give_n(4 * CAPACITY);
    now = stats_now();
    weir_cache_decay(cache);
    check("nothing was idle", now);
    weir_cache_decay(cache);
    now.cached -= CAPACITY, now.limit = CAPACITY;
    now.decayed = now.freed = CAPACITY, now.free_calls = 1;
    check("half of what was", now);
    finish();
}

static void *use_other_cpu(void *unused)
{
    (void)unused;
    fixture_pin(other_cpu);
    take_n(CAPACITY + 1);
    give_n(1);
    return NULL;
}

Test(cache_stats, cpu_by_cpu)
{
    struct weir_cache_stats mine, others, none = {.cached = 7};
    start_counting(true);
    take_n(1);
    pthread_join(fixture_thread(use_other_cpu, NULL), NULL);
    weir_cache_stats_cpu(cache, cpu, &mine);
    weir_cache_stats_cpu(cache, other_cpu, &others);
    if (cpu != other_cpu) {
        cr_assert_eq(mine.allocated, (uint64_t)CAPACITY);
        cr_assert_eq(mine.slow_allocs, 1u);
        cr_assert_eq(mine.cached, 3u);
        cr_assert_eq(others.allocated, 2u * CAPACITY);
        cr_assert_eq(others.slow_allocs, 2u);
        cr_assert_eq(others.fast_allocs, 3u);
        cr_assert_eq(others.cached, 4u);
    }
    check_counts(0);
    weir_cache_stats_cpu(cache, weir_percpu_nr_cpus(), &none);
    cr_assert_eq(none.cached, 0u);
    weir_cache_stats_cpu(cache, ~0u, &none);
    finish();
}

/* --- printing --- */

static char printed[1 << 16];
static long printed_bytes;

static int print(enum weir_print how)
{
    FILE *to = fmemopen(printed, sizeof printed, "w");
    cr_assert_not_null(to);
    int error = weir_cache_print(cache, to, how);
    printed_bytes = ftell(to);
    fclose(to);
    return error;
}

/* As much JSON as there is in the text: where it ends, or NULL if it is none. */
static const char *json_value(const char *at);

static const char *json_space(const char *at)
{
    return at + strspn(at, " \t\r\n");
}

static const char *json_string(const char *at)
{
    if (*at++ != '"')
        return NULL;
    for (; *at != '"'; at++) {
        if ((unsigned char)*at < 0x20)
            return NULL; /* the end, too */
        if (*at != '\\')
            continue;
        at++;
        if (*at == 'u' && strspn(at + 1, "0123456789abcdefABCDEF") >= 4)
            at += 4;
        else if (*at == '\0' || strchr("\"\\/bfnrt", *at) == NULL)
            return NULL;
    }
    return at + 1;
}

/* The inside of an object or an array. */
static const char *json_list(const char *at, char end)
{
    at = json_space(at + 1);
    if (*at == end)
        return at + 1;
    for (;;) {
        if (end == '}') {
            at = json_string(at);
            if (at == NULL || *(at = json_space(at)) != ':')
                return NULL;
            at = json_space(at + 1);
        }
        at = json_value(at);
        if (at == NULL)
            return NULL;
        at = json_space(at);
        if (*at == end)
            return at + 1;
        if (*at != ',')
            return NULL;
        at = json_space(at + 1);
    }
}

static const char *json_value(const char *at)
{
    size_t digits = strspn(at, "0123456789");
    if (*at == '{' || *at == '[')
        return json_list(at, *at == '{' ? '}' : ']');
    if (*at == '"')
        return json_string(at);
    return digits != 0 && (digits == 1 || *at != '0') ? at + digits : NULL;
}

static bool is_json(const char *text)
{
    const char *end = json_value(text);
    return end != NULL && *end == '\0';
}

Test(cache_stats, json_checker_knows_json)
{
    static const char *const right[] = {"{}", "[]", "0", "{\"a\": 1, \"b\": [\"x\\\"\\u001f\", {}]}"};
    static const char *const wrong[] = {"",      "{",           "[1,]",      "{\"a\" 1}",   "{a: 1}",
                                        "01",    "\"\\q\"",     "\"\n\"",    "{\"a\": 1,}", "[1 2]",
                                        "{} {}", "\"\\u00g0\"", "{\"a\": }", "\"",          "\"\\"};
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++)
        cr_assert(is_json(right[i]), "%s", right[i]);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        cr_assert_not(is_json(wrong[i]), "%s", wrong[i]);
}

/* Some of everything, so that hardly a number is zero, and all different where that is possible. */
static void use_some(void)
{
    take_n(50);
    give_n(45);
    take_bulk(13);
    give_rcu(2);
    weir_cache_rcu_barrier(cache);
    pthread_join(fixture_thread(use_other_cpu, NULL), NULL);
    weir_cache_decay(cache);
    weir_cache_decay(cache);
}

Test(cache_stats, json_has_every_member_of_the_whole_and_of_each_cpu)
{
    char item[100];
    start_counting(true);
    use_some();
    struct weir_cache_stats whole = stats_now(), one;
    cr_assert_eq(print(WEIR_PRINT_JSON), 0);
    cr_assert(is_json(printed), "%s", printed);
    char *cpus = strstr(printed, "\"cpus\": [");
    cr_assert_not_null(cpus);
    for (unsigned i = 0, nr; i < 2 && (nr = i == 0 ? cpu : other_cpu, i == 0 || cpu != other_cpu); i++) {
        weir_cache_stats_cpu(cache, nr, &one);
        snprintf(item, sizeof item, "{\"cpu\": %u, ", nr);
        char *start = strstr(cpus, item);
        cr_assert_not_null(start, "%s", item);
        char *end = strchr(start, '}'), was = *end;
        *end = '\0';
        for (size_t m = 0; m < MEMBERS; m++) {
            bool of_whole = value_of(&one, m) == 0; /* perhaps it is not for a CPU */
            snprintf(item, sizeof item, "\"%s\": %" PRIu64, members[m].name, value_of(&one, m));
            cr_assert(of_whole || strstr(start, item) != NULL, "CPU %u: %s", nr, item);
        }
        *end = was;
    }
    *cpus = '\0';
    for (size_t m = 0; m < MEMBERS; m++) {
        snprintf(item, sizeof item, "\"%s\": %" PRIu64 ",", members[m].name, value_of(&whole, m));
        cr_assert_not_null(strstr(printed, item), "%s is not in %s", item, printed);
    }
    snprintf(item, sizeof item, "{\"name\": \"objects\", \"capacity\": %d, \"domains\": 1, ", CAPACITY);
    cr_assert_eq(strncmp(printed, item, strlen(item)), 0, "%s", printed);
    finish();
}

Test(cache_stats, name_is_escaped_in_json)
{
    prepare(true);
    struct weir_cache_config config = config_of(CAPACITY, 0);
    config.name = "a \"quoted\" \\ name\n\t\x01 \xc3\xa4";
    cr_assert_eq(weir_cache_create(&cache, &config), 0);
    cr_assert_eq(print(WEIR_PRINT_JSON), 0);
    cr_assert(is_json(printed), "%s", printed);
    static const char start[] =
        "{\"name\": \"a \\\"quoted\\\" \\\\ name\\u000a\\u0009\\u0001 \xc3\xa4\", \"capacity\": 4,";
    cr_assert_eq(strncmp(printed, start, sizeof start - 1), 0, "%s", printed);
    finish();
}

Test(cache_stats, text_has_a_line_for_each_number)
{
    char line[200];
    start_counting(true);
    use_some();
    struct weir_cache_stats now = stats_now();
    cr_assert_eq(print(WEIR_PRINT_TEXT), 0);
    cr_assert_eq(strncmp(printed, "objects: 4 objects per magazine, 1 depot\n", 41), 0, "%s", printed);
    const struct {
        uint64_t value;
        const char *text;
    } lines[] = {
        {now.cached, "objects cached"},
        {now.out, "objects out"},
        {now.refills, "refills"},
        {now.flushes, "flushes"},
        {now.allocated, "objects from the backend"},
        {now.blocks.total, "magazines made"},
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        snprintf(line, sizeof line, "%16" PRIu64 "  %s\n", lines[i].value, lines[i].text);
        cr_assert_not_null(strstr(printed, line), "%s is not in %s", line, printed);
    }
    snprintf(line, sizeof line, "\nCPU %u\n", cpu);
    cr_assert_not_null(strstr(printed, line));
    size_t newlines = 0, cpus = cpu != other_cpu ? 2 : 1;
    for (const char *at = printed; (at = strchr(at, '\n')) != NULL; at++)
        newlines++;
    cr_assert_eq(newlines, 1 + MEMBERS + cpus * (1 + 20), "%s", printed);
    finish();
}

Test(cache_stats, cpus_without_use_are_not_printed)
{
    start_counting(true);
    cr_assert_eq(print(WEIR_PRINT_TEXT), 0);
    cr_assert_null(strstr(printed, "CPU"), "%s", printed);
    cr_assert_eq(print(WEIR_PRINT_JSON), 0);
    cr_assert(is_json(printed));
    cr_assert_not_null(strstr(printed, "\"cpus\": []"));
    finish();
}

Test(cache_stats, nameless_cache_is_called_cache_and_depots_are_counted)
{
    prepare(true);
    struct weir_cache_config config = config_of(CAPACITY, 0);
    create(&config, &(struct weir__cache_surroundings){NULL, imitate(3)});
    cr_assert_eq(print(WEIR_PRINT_TEXT), 0);
    cr_assert_eq(strncmp(printed, "cache: 4 objects per magazine, 3 depots\n", 40), 0, "%s", printed);
    finish();
}

Test(cache_stats, file_that_cannot_be_written_is_an_error)
{
    start_counting(true);
    FILE *to = fopen("/dev/null", "r");
    cr_assert_not_null(to);
    cr_assert_eq(weir_cache_print(cache, to, WEIR_PRINT_TEXT), -EIO);
    cr_assert_eq(weir_cache_print(cache, to, WEIR_PRINT_JSON), -EIO);
    fclose(to);
    to = fopen("/dev/full", "w");
    if (to != NULL) {
        setvbuf(to, NULL, _IONBF, 0);
        cr_assert_eq(weir_cache_print(cache, to, WEIR_PRINT_JSON), -EIO);
        fclose(to);
    }
    finish();
}

Test(cache_stats, way_to_print_that_there_is_not_is_an_error)
{
    start_counting(true);
    cr_assert_eq(print((enum weir_print)2), -EINVAL);
    cr_assert_eq(print((enum weir_print) - 1), -EINVAL);
    cr_assert_eq(printed[0], '\0', "it wrote: %s", printed);
    finish();
}
