/* SPDX-License-Identifier: MIT */
/* text.c - pieces of reports that are written alike: see bench.h. */
#include "bench.h"

void text_machine(char text[400], const struct machine *machine)
{
    snprintf(text, 400, "%s%u CPU%s (%s), %s, %s, liburcu %s", machine->guest ? "virtual machine, " : "",
             machine->cpus, machine->cpus == 1 ? "" : "s", machine->model, machine->compiler, machine->libc,
             BENCH_URCU_VERSION);
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

const char *text_verdict(enum verdict_state state, bool peers)
{
    if (state == BESIDE)
        return "";
    return state == MET ? "met" : state == NOT_MET ? "NOT MET" : peers ? "not run" : "needs --peers";
}
