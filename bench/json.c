/* SPDX-License-Identifier: MIT */
/* json.c - everything that was measured, for machines. Times are nanoseconds, memory is bytes. */
#include "bench.h"

/* Writes values in their order; knows where commas and indentation go. */
struct writer {
    FILE *to;
    unsigned depth;
    bool first;
};

/* What comes before a value: comma, new line, indentation, and in an object the name. */
static void before(struct writer *json, const char *name)
{
    if (!json->first)
        fputc(',', json->to);
    if (json->depth != 0)
        fprintf(json->to, "\n%*s", (int)json->depth * 2, "");
    json->first = false;
    if (name != NULL) {
        text_json(json->to, name);
        fputs(": ", json->to);
    }
}

static void begin(struct writer *json, const char *name, char bracket)
{
    before(json, name);
    fputc(bracket, json->to);
    json->depth++;
    json->first = true;
}

static void end(struct writer *json, char bracket)
{
    json->depth--;
    if (!json->first)
        fprintf(json->to, "\n%*s", (int)json->depth * 2, "");
    fputc(bracket, json->to);
    json->first = false;
}

static void put_text(struct writer *json, const char *name, const char *text)
{
    before(json, name);
    text_json(json->to, text);
}

static void put_count(struct writer *json, const char *name, uint64_t count)
{
    before(json, name);
    fprintf(json->to, "%llu", (unsigned long long)count);
}

static void put_number(struct writer *json, const char *name, double number)
{
    before(json, name);
    fprintf(json->to, "%.3f", number);
}

static void put_bool(struct writer *json, const char *name, bool value)
{
    before(json, name);
    fputs(value ? "true" : "false", json->to);
}

static void put_spread(struct writer *json, const char *name, struct spread spread)
{
    before(json, name);
    fprintf(json->to, "{\"median\": %.3f, \"min\": %.3f, \"low\": %.3f, \"high\": %.3f, \"max\": %.3f}",
            spread.median, spread.min, spread.low, spread.high, spread.max);
}

static void put_machine(struct writer *json, const struct machine *machine)
{
    begin(json, "machine", '{');
    put_text(json, "cpu", machine->model);
    put_count(json, "cpus", machine->cpus);
    put_count(json, "cpus_on_line", machine->cpus_on_line);
    put_count(json, "memory_bytes", machine->memory);
    put_text(json, "kernel", machine->kernel);
    put_text(json, "libc", machine->libc);
    put_text(json, "compiler", machine->compiler);
    put_text(json, "liburcu", BENCH_URCU_VERSION);
    put_text(json, "percpu_mode", machine->percpu_mode);
    put_text(json, "percpu_reason", machine->percpu_reason);
    end(json, '}');
}

static void put_options(struct writer *json, const struct options *options)
{
    begin(json, "options", '{');
    put_count(json, "objects", options->objects);
    put_count(json, "threads", options->threads);
    put_count(json, "readers", options->readers);
    put_count(json, "rounds", options->rounds);
    put_number(json, "seconds", options->seconds);
    put_count(json, "object_bytes", options->object_bytes);
    put_bool(json, "peers", options->peers);
    end(json, '}');
}

static void put_blocks(struct writer *json, const struct weir_block_stats *blocks)
{
    begin(json, "magazines", '{');
    put_count(json, "in_use", blocks->in_use);
    put_count(json, "peak", blocks->total);
    put_count(json, "grown", blocks->grown);
    put_count(json, "misses", blocks->misses);
    end(json, '}');
}

static void put_pages(struct writer *json, const struct weir_page_cache_stats *pages)
{
    begin(json, "pages", '{');
    put_count(json, "page_bytes", pages->page_size);
    put_count(json, "capacity", pages->capacity);
    put_count(json, "frames", pages->frames);
    put_count(json, "frames_peak", pages->frames_peak);
    put_count(json, "holding_magazines", pages->block_pages);
    put_count(json, "cached", pages->cache.cached);
    put_count(json, "magazines_waiting", pages->cache.waiting);
    put_count(json, "refills", pages->cache.refills);
    put_count(json, "refills_from_depot", pages->cache.depot_hits);
    put_count(json, "flushes", pages->cache.flushes);
    put_count(json, "got_from_frames", pages->cache.allocated);
    put_count(json, "got_from_frames_calls", pages->cache.alloc_calls);
    put_count(json, "given_to_frames", pages->cache.freed);
    put_count(json, "given_to_frames_calls", pages->cache.free_calls);
    put_count(json, "rcu_freed", pages->cache.rcu_freed);
    put_count(json, "rcu_waits", pages->cache.rcu_waits);
    put_count(json, "grace_periods", pages->cache.periods);
    put_blocks(json, &pages->cache.blocks);
    end(json, '}');
}

static void put_reclaimer(struct writer *json, const struct weir_reclaimer_stats *reclaimer)
{
    begin(json, "reclaimer", '{');
    put_count(json, "freed", reclaimer->freed);
    put_count(json, "magazines_waiting", reclaimer->waiting);
    put_count(json, "chained_ever", reclaimer->chain_total);
    put_count(json, "waits", reclaimer->waits);
    put_count(json, "throttled", reclaimer->throttled);
    put_count(json, "refused", reclaimer->refused);
    put_count(json, "grace_periods", reclaimer->periods);
    put_blocks(json, &reclaimer->blocks);
    end(json, '}');
}

static void put_case(struct writer *json, const struct deferred_result *result)
{
    begin(json, NULL, '{');
    put_text(json, "id", deferred_id(result->method));
    put_text(json, "name", deferred_name(result->method));
    put_count(json, "workers", result->workers);
    if (result->failure[0] != '\0')
        put_text(json, "failure", result->failure);
    put_count(json, "rounds", result->rounds);
    put_spread(json, "hand_over_ns", spread_of(result->hand_over, result->rounds));
    put_spread(json, "barrier_ns", spread_of(result->barrier, result->rounds));
    put_count(json, "resident_start_bytes", result->resident_start);
    put_count(json, "resident_peak_bytes", result->resident_peak);
    put_count(json, "allocations_tried_again", result->no_memory);
    begin(json, "reader_checks", '{');
    put_count(json, "made", result->checks.made);
    put_count(json, "of_handed_over_objects", result->checks.handed);
    put_count(json, "violations", result->checks.violations);
    end(json, '}');
    if (deferred_is_page(result->method))
        put_pages(json, &result->pages);
    if (deferred_is_reclaimer(result->method))
        put_reclaimer(json, &result->reclaimer);
    end(json, '}');
}

static void put_contender(struct writer *json, enum contender id, const struct contender_result *contender)
{
    static const char *const pattern[PATTERNS] = {"alternating", "runs_of_8", "runs_of_64"};
    static const char *const touched[2] = {"untouched_ns", "first_byte_written_ns"};
    static const char *const ratio[2] = {"untouched_to_lifo", "first_byte_written_to_lifo"};

    if (!contender->asked_for)
        return;
    begin(json, NULL, '{');
    put_text(json, "id", contender_id(id));
    put_text(json, "name", contender_name(id));
    put_bool(json, "inlined", id >= LIFO_INLINED);
    if (contender->failure[0] != '\0')
        put_text(json, "failure", contender->failure);
    for (unsigned p = 0; p < PATTERNS && contender->failure[0] == '\0'; p++) {
        begin(json, pattern[p], '{');
        for (unsigned touch = 0; touch < 2; touch++) {
            put_spread(json, touched[touch], contender->ns[p][touch]);
            put_number(json, ratio[touch], contender->to_lifo[p][touch].median);
        }
        end(json, '}');
    }
    end(json, '}');
}

static void put_summary(struct writer *json, const struct options *options, const struct results *results)
{
    static const char *const states[] = {[NOT_RUN] = "not run", [NOT_MET] = "not met", [MET] = "met"};
    struct verdict verdicts[VERDICTS_MAX];
    unsigned n = summary_make(verdicts, options, results);

    begin(json, "summary", '[');
    for (unsigned i = 0; i < n; i++) {
        begin(json, NULL, '{');
        put_text(json, "figure", verdicts[i].figure);
        if (verdicts[i].state != NOT_RUN)
            put_spread(json, "value", verdicts[i].value);
        put_text(json, "unit", verdicts[i].unit);
        put_text(json, "target", verdicts[i].target);
        put_text(json, "state", states[verdicts[i].state]);
        end(json, '}');
    }
    end(json, ']');
}

void json_print(FILE *to, const struct options *options, const struct machine *machine,
                const struct results *results)
{
    struct writer json = {to, 0, true};

    begin(&json, NULL, '{');
    put_text(&json, "weir", BENCH_VERSION);
    put_machine(&json, machine);
    put_options(&json, options);
    put_number(&json, "seconds", results->seconds);
    if (results->noise.others >= 0) {
        put_number(&json, "cpu_time_used_by_other_programs", results->noise.others);
        put_number(&json, "cpu_time_stolen_by_hypervisor", results->noise.stolen);
    }
    begin(&json, "deferred_free", '[');
    for (unsigned i = 0; i < results->cases; i++)
        put_case(&json, results->case_result[i]);
    end(&json, ']');
    if (options->pair) {
        begin(&json, "pair", '{');
        put_count(&json, "rounds", results->pair.rounds);
        begin(&json, "contenders", '[');
        for (enum contender c = 0; c < CONTENDERS; c++)
            put_contender(&json, c, &results->pair.contender[c]);
        end(&json, ']');
        end(&json, '}');
    }
    put_summary(&json, options, results);
    end(&json, '}');
    fputc('\n', to);
}
