/* SPDX-License-Identifier: MIT */
/* scaling_report.c - the tables of weir-bench-scaling: for people, for docs, for machines, and to plot. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <string.h>

#include "scaling.h"

#define FIRST_WIDTH 38
#define WIDTH 13

/* A table, as text or as markdown. */
struct paper {
    FILE *to;
    bool markdown;
    unsigned column;
};

__attribute__((format(printf, 2, 3))) static void cell(struct paper *paper, const char *format, ...)
{
    char text[160];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (paper->markdown)
        fprintf(paper->to, "%s %s |", paper->column == 0 ? "|" : "", text);
    else if (paper->column == 0)
        fprintf(paper->to, "  %-*s", FIRST_WIDTH, text);
    else
        fprintf(paper->to, " %*s", WIDTH, text);
    paper->column++;
}

static void end_row(struct paper *paper)
{
    fputc('\n', paper->to);
    paper->column = 0;
}

static void title(struct paper *paper, const char *text)
{
    fprintf(paper->to, paper->markdown ? "\n**%s**\n\n" : "\n%s\n", text);
    if (paper->markdown)
        return;
    for (size_t i = 0; i < strlen(text); i++)
        fputc('-', paper->to);
    fputc('\n', paper->to);
}

static void note(struct paper *paper, const char *text)
{
    fprintf(paper->to, paper->markdown ? "\n%s\n" : "  %s\n", text);
}

/* After the headings. */
static void rule(struct paper *paper)
{
    unsigned columns = paper->column;
    end_row(paper);
    if (!paper->markdown)
        return;
    for (unsigned i = 0; i < columns; i++)
        fputs(i == 0 ? "|---|" : "--:|", paper->to);
    fputc('\n', paper->to);
}

/* --- tables --- */

static void print_inputs(struct paper *paper, const struct scaling_results *results)
{
    title(paper, "What an operation costs here: CPU nanoseconds");
    cell(paper, "%s", "");
    cell(paper, "ns");
    rule(paper);
    cell(paper, "alloc + free, fast path");
    cell(paper, "%.1f", results->pair);
    end_row(paper);
    for (unsigned c = 0; c < CAPACITIES; c++) {
        cell(paper, "refill from the depot, capacity %u", scaling_capacity[c]);
        cell(paper, "%.0f", results->refill[c]);
        end_row(paper);
        cell(paper, "flush to the depot, capacity %u", scaling_capacity[c]);
        cell(paper, "%.0f", results->flush[c]);
        end_row(paper);
    }
    cell(paper, "refill or flush with the spare");
    cell(paper, "%.0f", results->spare);
    end_row(paper);
    if (results->near.median > 0) {
        cell(paper, "a line, from CPU to CPU");
        cell(paper, "%.0f", results->near.median);
        end_row(paper);
    }
    if (results->near.median > 0) {
        cell(paper, "each line of a run of 16, such as a magazine");
        cell(paper, "%.0f", results->run.median);
        end_row(paper);
    }
    if (results->far.median > 0) {
        cell(paper, "a line, from domain to domain");
        cell(paper, "%.0f", results->far.median);
        end_row(paper);
    }
    note(paper, "Refill and flush: beyond the fast path, with the lines at hand. A line: a load and a "
                "read-modify-write "
                "of it by two CPUs by turns, per turn.");
}

static void print_exchanges(struct paper *paper, const struct scaling_results *results)
{
    title(paper, "Lines shared by the CPUs of a domain, per exchange");
    cell(paper, "%s", "");
    cell(paper, "own domain");
    cell(paper, "other domain");
    cell(paper, "counted");
    cell(paper, "RMWs on them");
    cell(paper, "visits");
    if (paper->markdown)
        cell(paper, "which");
    rule(paper);
    for (enum exchange exchange = 0; exchange < EXCHANGES; exchange++) {
        const struct exchange_result *result = &results->exchange[exchange];
        double n = result->counted != 0 ? result->counted : 1, own = 0, other = 0, rmw = 0, visits = 0;
        for (unsigned i = 0; i < LINES; i++) {
            *(i < OTHER_HEAD ? &own : &other) += (double)result->tally.lines[i] / n;
            rmw += (double)result->tally.rmw[i] / n;
            visits += (double)result->tally.visits[i] / n;
        }
        cell(paper, "%s", exchange_lines[exchange].name);
        cell(paper, "%u", exchange_lines[exchange].own);
        cell(paper, "%u", exchange_lines[exchange].other);
        if (result->counted == 0) {
            cell(paper, "not run");
            cell(paper, "%s", "");
            cell(paper, "%s", "");
        } else {
            cell(paper, "%.3g + %.3g%s", own, other, scaling_lines_agree(result, exchange) ? "" : " DIFFERS");
            cell(paper, "%.3g", rmw);
            cell(paper, "%.3g", visits);
        }
        if (paper->markdown)
            cell(paper, "%s", exchange_lines[exchange].why);
        end_row(paper);
    }
    note(paper, "The first two columns are read off the code, for two domains; counted is what an "
                "instrumented build of "
                "the library did. Visits: accesses to one line in a row are one visit.");
}

static double million(uint64_t n, const struct outcome *outcome)
{
    return outcome->pairs != 0 ? 1e6 * (double)n / (double)outcome->pairs : 0;
}

static void print_counts(struct paper *paper, const struct scaling_results *results, unsigned two)
{
    title(paper, two != 0 ? "Exchanges per million pairs, two imitated domains"
                          : "Exchanges per million pairs, one depot");
    static const char *const heads[] = {"refills",       "from depot", "stolen",       "flushes", "spills",
                                        "backend calls", "lines, own", "lines, other", "visits"};
    cell(paper, "workload, capacity");
    for (unsigned i = 0; i < sizeof heads / sizeof heads[0]; i++)
        cell(paper, "%s", heads[i]);
    rule(paper);
    for (enum workload workload = 0; workload < SWING; workload++) {
        for (unsigned c = 0; c < CAPACITIES; c++) {
            const struct outcome *outcome = &results->count[workload][c][two].outcome;
            const struct weir_cache_stats *stats = &outcome->stats;
            uint64_t own = 0, other = 0, visits = 0;
            for (unsigned i = 0; i < LINES; i++) {
                *(i < OTHER_HEAD ? &own : &other) += outcome->tally.lines[i];
                visits += outcome->tally.visits[i];
            }
            cell(paper, "%s, %u", workload_name(workload), scaling_capacity[c]);
            cell(paper, "%.0f", million(stats->refills, outcome));
            cell(paper, "%.0f", million(stats->depot_hits, outcome));
            cell(paper, "%.0f", million(stats->stolen, outcome));
            cell(paper, "%.0f", million(stats->flushes, outcome));
            cell(paper, "%.0f", million(stats->spills, outcome));
            cell(paper, "%.0f", million(stats->alloc_calls, outcome));
            cell(paper, "%.0f", million(own, outcome));
            cell(paper, "%.0f", million(other, outcome));
            cell(paper, "%.0f", million(visits, outcome));
            end_row(paper);
        }
    }
}

static void print_checks(struct paper *paper, const struct scaling_results *results)
{
    title(paper, "Predicted beside measured: CPU nanoseconds per pair");
    cell(paper, "workload, capacity");
    cell(paper, "threads");
    cell(paper, "depots");
    cell(paper, "measured");
    cell(paper, "half of slices");
    cell(paper, "predicted");
    cell(paper, "error");
    rule(paper);
    for (unsigned i = 0; i < results->checks; i++) {
        const struct check *check = &results->check[i];
        if (check->outcome.failure[0] != '\0' || check->outcome.ns <= 0)
            continue;
        cell(paper, "%s, %u", workload_name(check->job.workload), check->job.capacity);
        cell(paper, "%u", check->job.threads);
        cell(paper, "%u", check->job.domains != 0 ? check->job.domains : results->domains);
        cell(paper, "%.2f", check->outcome.ns);
        cell(paper, "+- %.2f", check->outcome.spread);
        cell(paper, "%.2f", check->predicted);
        cell(paper, "%+.0f %%", (check->predicted / check->outcome.ns - 1) * 100);
        end_row(paper);
    }
}

static void knee_cell(struct paper *paper, unsigned knee)
{
    if (knee == 0)
        cell(paper, "-");
    else
        cell(paper, "%u", knee);
}

/* One depot for all CPUs beside one for each last-level cache. */
static void print_knees(struct paper *paper, const struct scaling_results *results)
{
    static const double moves[] = {50, 100, 200, 500};
    const struct distances *distances = &results->options->distances;
    char text[400];

    title(paper, "From how many CPUs on does one depot for all of them cost more than 10 %?");
    cell(paper, "workload, capacity");
    for (unsigned i = 0; i < 4; i++)
        cell(paper, "%.0f ns", moves[i]);
    cell(paper, "graded");
    cell(paper, "to one alone");
    rule(paper);
    for (enum workload workload = WALK_64; workload < SWING; workload++) {
        for (unsigned c = 0; c < CAPACITIES; c++) {
            struct model one = scaling_model(results, workload, c, SCALING_CPUS_MAX, false);
            struct model better = scaling_model(results, workload, c, distances->size[0], false);
            one.gate_lines = better.gate_lines = 0;
            cell(paper, "%s, %u", workload_name(workload), scaling_capacity[c]);
            for (unsigned i = 0; i < 4; i++) {
                for (unsigned k = 0; k < 3; k++)
                    one.distances.ns[k] = better.distances.ns[k] = moves[i];
                knee_cell(paper, model_knee(&one, &better));
            }
            one.distances = better.distances = *distances;
            knee_cell(paper, model_knee(&one, &better));
            knee_cell(paper, model_knee(&one, NULL));
            end_row(paper);
        }
    }
    snprintf(text, sizeof text,
             "More than one depot for every %u CPUs; last column: more than one CPU alone takes, graded. "
             "Columns: what a "
             "move of a line takes; graded: %.0f ns within %u CPUs, %.0f ns within %u, %.0f ns beyond. -: "
             "not up to %u. "
             "The program does %.0f ns of work of its own per pair.",
             distances->size[0], distances->ns[0], distances->size[0], distances->ns[1], distances->size[1],
             distances->ns[2], SCALING_CPUS_MAX, results->options->work);
    note(paper, text);
}

/* Depots: one; one per node; one per last-level cache; that, and objects go from one cache to another; one
 * per cache, and a gate that costs nothing. */
#define ARRANGEMENTS 5
static struct model arranged(const struct scaling_results *results, enum workload workload, unsigned c,
                             unsigned arrangement)
{
    const struct distances *distances = &results->options->distances;
    const unsigned cache = distances->size[0];
    const unsigned domain_cpus[ARRANGEMENTS] = {SCALING_CPUS_MAX, distances->size[1], cache, cache, cache};
    struct model model = scaling_model(results, workload, c, domain_cpus[arrangement], arrangement == 3);
    if (arrangement == 4)
        model.gate_lines = 0;
    return model;
}

static void print_model(struct paper *paper, const struct scaling_results *results)
{
    static const unsigned cpus[] = {2, 8, 16, 64, 128, 512};
    static const char *const names[ARRANGEMENTS] = {"one depot", "one per node", "one per cache",
                                                    "one per cache, far", "one per cache, no gate"};
    title(paper, "Modelled throughput: per CPU, as a share of what one CPU does alone");
    cell(paper, "workload, capacity, depots");
    for (unsigned i = 0; i < sizeof cpus / sizeof cpus[0]; i++)
        cell(paper, "%u CPUs", cpus[i]);
    rule(paper);
    for (unsigned which = 0; which < 2; which++) {
        enum workload workload = which == 0 ? PIPE : WALK_512;
        for (unsigned c = 0; c < CAPACITIES; c++) {
            for (unsigned a = 0; a < ARRANGEMENTS; a++) {
                if (a == 3 && (workload != PIPE || !results->two_domains))
                    continue;
                struct model model = arranged(results, workload, c, a);
                cell(paper, "%s, %u, %s", workload == PIPE ? "pipe" : "walk 512", scaling_capacity[c],
                     names[a]);
                for (unsigned i = 0; i < sizeof cpus / sizeof cpus[0]; i++)
                    cell(paper, "%.0f %%", model_ns(&model, 1) / model_ns(&model, cpus[i]) * 100);
                end_row(paper);
            }
        }
    }
    note(
        paper,
        "Far: each object is freed in another cache's domain than it was allocated in; otherwise in the same "
        "one. No gate: as if each CPU had a line of the fork gate to itself, as up to 512 have.");
}

static void machine_line(char line[400], const struct machine *machine)
{
    snprintf(line, 400, "%s, %u CPU%s (%s), %s, %s, per-CPU mode %s",
             machine->guest ? "virtual machine" : "machine", machine->cpus, machine->cpus == 1 ? "" : "s",
             machine->model, machine->compiler, machine->libc, machine->percpu_mode);
}

void scaling_report(FILE *to, const struct scaling_results *results, bool markdown)
{
    struct paper paper = {to, markdown, 0};
    char line[400];
    machine_line(line, results->machine);
    if (!markdown)
        fprintf(to, "weir %s, throughput with many CPUs\n\n  ", BENCH_VERSION);
    fprintf(to, "Measured on: %s; domains of CPUs: %u. %u slices of %u ms per cell, took %.0f s", line,
            results->domains, results->options->slices, results->options->milliseconds, results->seconds);
    if (results->noise.others >= 0)
        fprintf(to, "; other programs used %.0f %% of the CPUs", results->noise.others * 100);
    fputs(".\n", to);
    print_inputs(&paper, results);
    print_exchanges(&paper, results);
    for (unsigned two = 0; two <= results->two_domains; two++)
        print_counts(&paper, results, two);
    print_checks(&paper, results);
    print_knees(&paper, results);
    print_model(&paper, results);
}

/* For gnuplot: an index for each capacity of the pipe, then of the walk; CPUs, linear, then the arrangements,
 * in million pairs per second. */
void scaling_data(FILE *to, const struct scaling_results *results)
{
    fputs("# CPUs, linear, one depot, one per node, one per cache, that and far, that without the gate: "
          "million pairs per "
          "second\n",
          to);
    for (unsigned which = 0; which < 2; which++) {
        enum workload workload = which == 0 ? PIPE : WALK_512;
        for (unsigned c = 0; c < CAPACITIES; c++) {
            for (unsigned cpus = 2; cpus <= SCALING_CPUS_MAX; cpus *= 2) {
                struct model model = arranged(results, workload, c, 0);
                fprintf(to, "%u %.4f", cpus, cpus * 1e3 / model_ns(&model, 1));
                for (unsigned a = 0; a < ARRANGEMENTS; a++) {
                    model = arranged(results, workload, c, a);
                    fprintf(to, " %.4f", cpus * 1e3 / model_ns(&model, cpus));
                }
                fputc('\n', to);
            }
            fputs("\n\n", to);
        }
    }
}

/* --- JSON --- */

static void put_text(FILE *to, const char *name, const char *text)
{
    fprintf(to, "\"%s\": \"", name);
    for (; *text != '\0'; text++)
        fprintf(to, *text == '"' || *text == '\\' ? "\\%c" : "%c", (unsigned char)*text < 0x20 ? ' ' : *text);
    fputc('"', to);
}

static void put_tally(FILE *to, const struct tally *tally)
{
    static const char *const names[LINES] = {"head",       "steer",       "idle",
                                             "other_head", "other_steer", "other_idle"};
    fprintf(to, "\"exchanges\": %llu, \"gate\": %llu", (unsigned long long)tally->exchanges,
            (unsigned long long)tally->gate);
    for (unsigned i = 0; i < LINES; i++)
        fprintf(to, ", \"%s\": {\"lines\": %llu, \"visits\": %llu, \"rmw\": %llu, \"stores\": %llu}",
                names[i], (unsigned long long)tally->lines[i], (unsigned long long)tally->visits[i],
                (unsigned long long)tally->rmw[i], (unsigned long long)tally->stores[i]);
}

static void put_counts(FILE *to, const struct scaling_results *results)
{
    const char *between = "";
    for (enum workload workload = 0; workload < SWING; workload++) {
        for (unsigned c = 0; c < CAPACITIES; c++) {
            for (unsigned two = 0; two <= results->two_domains; two++) {
                const struct outcome *outcome = &results->count[workload][c][two].outcome;
                const struct weir_cache_stats *stats = &outcome->stats;
                fprintf(to,
                        "%s\n    {\"workload\": \"%s\", \"capacity\": %u, \"domains\": %u, \"pairs\": %llu, "
                        "\"refills\": %llu, \"depot_hits\": %llu, \"stolen\": %llu, \"flushes\": %llu, "
                        "\"spills\": %llu, \"alloc_calls\": %llu, ",
                        between, workload_id(workload), scaling_capacity[c], two + 1,
                        (unsigned long long)outcome->pairs, (unsigned long long)stats->refills,
                        (unsigned long long)stats->depot_hits, (unsigned long long)stats->stolen,
                        (unsigned long long)stats->flushes, (unsigned long long)stats->spills,
                        (unsigned long long)stats->alloc_calls);
                put_tally(to, &outcome->tally);
                fputc('}', to);
                between = ",";
            }
        }
    }
}

static void put_checks(FILE *to, const struct scaling_results *results)
{
    for (unsigned i = 0; i < results->checks; i++) {
        const struct check *check = &results->check[i];
        fprintf(to,
                "%s\n    {\"workload\": \"%s\", \"capacity\": %u, \"threads\": %u, \"depots\": %u, "
                "\"measured\": %.4f, \"spread\": %.4f, \"predicted\": %.4f}",
                i != 0 ? "," : "", workload_id(check->job.workload), check->job.capacity, check->job.threads,
                check->job.domains != 0 ? check->job.domains : results->domains, check->outcome.ns,
                check->outcome.spread, check->predicted);
    }
}

static void put_model(FILE *to, const struct scaling_results *results)
{
    static const char *const ids[ARRANGEMENTS] = {"one", "node", "cache", "cache-far", "cache-no-gate"};
    const char *between = "";
    for (enum workload workload = WALK_64; workload < SWING; workload++) {
        for (unsigned c = 0; c < CAPACITIES; c++) {
            for (unsigned a = 0; a < ARRANGEMENTS; a++) {
                struct model model = arranged(results, workload, c, a);
                fprintf(to,
                        "%s\n    {\"workload\": \"%s\", \"capacity\": %u, \"depots\": \"%s\", \"knee\": %u, "
                        "\"ns\": {",
                        between, workload_id(workload), scaling_capacity[c], ids[a],
                        model_knee(&model, NULL));
                for (unsigned cpus = 1; cpus <= SCALING_CPUS_MAX; cpus *= 2)
                    fprintf(to, "%s\"%u\": %.4f", cpus != 1 ? ", " : "", cpus, model_ns(&model, cpus));
                fputs("}}", to);
                between = ",";
            }
        }
    }
}

void scaling_json(FILE *to, const struct scaling_results *results)
{
    const struct machine *machine = results->machine;
    const struct distances *distances = &results->options->distances;
    fputs("{\n  ", to);
    put_text(to, "weir", BENCH_VERSION);
    fputs(",\n  \"machine\": {", to);
    put_text(to, "model", machine->model);
    fprintf(to, ", \"cpus\": %u, \"domains\": %u, \"virtual\": %s, ", machine->cpus, results->domains,
            machine->guest ? "true" : "false");
    put_text(to, "kernel", machine->kernel);
    fputs(", ", to);
    put_text(to, "libc", machine->libc);
    fputs(", ", to);
    put_text(to, "compiler", machine->compiler);
    fputs(", ", to);
    put_text(to, "percpu", machine->percpu_mode);
    fprintf(to, "},\n  \"slices\": %u, \"milliseconds\": %u, \"seconds\": %.1f,\n", results->options->slices,
            results->options->milliseconds, results->seconds);
    fprintf(to, "  \"noise\": {\"others\": %.4f, \"stolen\": %.4f},\n", results->noise.others,
            results->noise.stolen);
    fprintf(to, "  \"assumed\": {\"sizes\": [%u, %u], \"ns\": [%.1f, %.1f, %.1f], \"work\": %.1f},\n",
            distances->size[0], distances->size[1], distances->ns[0], distances->ns[1], distances->ns[2],
            results->options->work);
    fprintf(
        to,
        "  \"pair\": %.3f, \"spare\": %.3f, \"line_near\": %.2f, \"line_far\": %.2f, \"line_run\": %.2f,\n  "
        "\"exchange_ns\": [",
        results->pair, results->spare, results->near.median, results->far.median, results->run.median);
    for (unsigned c = 0; c < CAPACITIES; c++)
        fprintf(to, "%s{\"capacity\": %u, \"refill\": %.2f, \"flush\": %.2f}", c != 0 ? ", " : "",
                scaling_capacity[c], results->refill[c], results->flush[c]);
    fputs("],\n  \"exchanges\": [", to);
    for (enum exchange exchange = 0; exchange < EXCHANGES; exchange++) {
        fprintf(to, "%s\n    {\"kind\": \"%s\", \"own\": %u, \"other\": %u, \"counted\": %u, ",
                exchange != 0 ? "," : "", exchange_lines[exchange].id, exchange_lines[exchange].own,
                exchange_lines[exchange].other, results->exchange[exchange].counted);
        put_tally(to, &results->exchange[exchange].tally);
        fputc('}', to);
    }
    fputs("\n  ],\n  \"counts\": [", to);
    put_counts(to, results);
    fputs("\n  ],\n  \"checks\": [", to);
    put_checks(to, results);
    fputs("\n  ],\n  \"model\": [", to);
    put_model(to, results);
    fputs("\n  ]\n}\n", to);
}
