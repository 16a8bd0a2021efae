/* SPDX-License-Identifier: MIT */
/* text.c - pieces of reports that are written alike: see bench.h. */
#include "bench.h"

void text_machine(char text[400], const struct machine *machine)
{
    snprintf(text, 400, "%s%u CPU%s (%s), %s, %s, liburcu %s", machine->guest ? "virtual machine, " : "",
             machine->cpus, machine->cpus == 1 ? "" : "s", machine->model, machine->compiler, machine->libc,
             BENCH_URCU_VERSION);
}

void text_noise(FILE *to, const struct noise *noise)
{
    if (noise->others < 0)
        return;
    fprintf(
        to, "  noise     CPU time used by other programs %.1f %%, by other guests of the host %.1f %%%s\n",
        noise->others * 100, noise->stolen * 100, noise->others + noise->stolen > 0.03 ? ": too much" : "");
}

double text_deviation(const struct spread *spread)
{
    double below = spread->median - spread->low, above = spread->high - spread->median;
    return spread->median > 0 ? (below > above ? below : above) / spread->median * 100 : 0;
}

void text_json(FILE *to, const char *text)
{
    fputc('"', to);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fprintf(to, "\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            fprintf(to, "\\u%04x", (unsigned)*text);
        else
            fputc(*text, to);
    }
    fputc('"', to);
}

void text_json_named(FILE *to, const char *name, const char *text)
{
    fprintf(to, "\"%s\": ", name);
    text_json(to, text);
}

void text_json_spread(FILE *to, const struct spread *spread)
{
    fprintf(to, "\"median\": %.4f, \"min\": %.4f, \"low\": %.4f, \"high\": %.4f, \"max\": %.4f",
            spread->median, spread->min, spread->low, spread->high, spread->max);
}

void text_json_machine(FILE *to, const struct machine *machine)
{
    fputs("  \"machine\": {", to);
    text_json_named(to, "model", machine->model);
    fprintf(to, ", \"cpus\": %u, \"virtual\": %s, ", machine->cpus, machine->guest ? "true" : "false");
    text_json_named(to, "kernel", machine->kernel);
    fputs(", ", to);
    text_json_named(to, "libc", machine->libc);
    fputs(", ", to);
    text_json_named(to, "compiler", machine->compiler);
    fputs(", ", to);
    text_json_named(to, "percpu", machine->percpu_reason);
    fputs("},\n", to);
}

const char *text_verdict(enum verdict_state state, bool peers)
{
    if (state == BESIDE)
        return "";
    return state == MET ? "met" : state == NOT_MET ? "NOT MET" : peers ? "not run" : "needs --peers";
}
