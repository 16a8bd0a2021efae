/* SPDX-License-Identifier: MIT */
/* machine.c - what the figures were measured on. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <gnu/libc-version.h>
#endif

#include "bench.h"

#define CPU_NUMBERS 8192

void machine_cpus(struct machine *machine)
{
    size_t bytes = CPU_ALLOC_SIZE(CPU_NUMBERS);
    cpu_set_t *allowed = CPU_ALLOC(CPU_NUMBERS);
    long on_line = sysconf(_SC_NPROCESSORS_ONLN);

    machine->cpus_on_line = on_line > 0 ? (unsigned)on_line : 1;
    if (allowed != NULL && sched_getaffinity(0, bytes, allowed) == 0)
        for (unsigned cpu = 0; cpu < CPU_NUMBERS && machine->cpus < 1024; cpu++)
            if (CPU_ISSET_S(cpu, bytes, allowed))
                machine->cpu[machine->cpus++] = cpu;
    if (machine->cpus == 0)
        machine->cpus = 1;
    CPU_FREE(allowed);
}

void machine_pin(const struct machine *machine, unsigned n)
{
    size_t bytes = CPU_ALLOC_SIZE(CPU_NUMBERS);
    cpu_set_t *one = CPU_ALLOC(CPU_NUMBERS);
    if (one == NULL)
        return;
    CPU_ZERO_S(bytes, one);
    CPU_SET_S(machine->cpu[n % machine->cpus], bytes, one);
    pthread_setaffinity_np(pthread_self(), bytes, one);
    CPU_FREE(one);
}

static void describe_model(char model[128])
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(model, 128, "unknown CPU");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        char *colon = strchr(line, ':');
        if (colon == NULL || (strncmp(line, "model name", 10) != 0 && strncmp(line, "Model", 5) != 0))
            continue;
        colon[strcspn(colon, "\n")] = '\0';
        snprintf(model, 128, "%.120s", colon + 1 + strspn(colon + 1, " \t"));
        break;
    }
    if (file != NULL)
        fclose(file);
}

/* x86 says so among the CPU's features. */
static bool is_guest(void)
{
    char word[64];
    bool found = false;
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file != NULL && !found && fscanf(file, "%63s", word) == 1)
        found = strcmp(word, "hypervisor") == 0;
    if (file != NULL)
        fclose(file);
    return found;
}

/* In a child: finding the mode out may need threads, and the parent forks. */
static void describe_percpu(void *arg)
{
    struct machine *machine = arg;
    child_request();
    bool rseq = weir_percpu_mode() == WEIR_PERCPU_RSEQ;
    snprintf(machine->percpu_mode, sizeof machine->percpu_mode, "%s", rseq ? "rseq" : "lock");
    snprintf(machine->percpu_reason, sizeof machine->percpu_reason, "%s", weir_percpu_reason());
    child_answer();
}

void machine_describe(struct machine *machine)
{
    struct utsname name;
    struct child child;
    struct patience patience = {30, NULL, NULL};
    char answer, why[160];
    struct machine *shared = shared_memory(sizeof *shared);

    *machine = (struct machine){0};
    machine_cpus(machine);
    describe_model(machine->model);
    machine->guest = is_guest();
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    machine->memory = pages > 0 && page > 0 ? (size_t)pages * (size_t)page : 0;
    uname(&name);
    snprintf(machine->kernel, sizeof machine->kernel, "%.20s %.56s", name.sysname, name.release);
#ifdef __GLIBC__
    snprintf(machine->libc, sizeof machine->libc, "glibc %s", gnu_get_libc_version());
#else
    snprintf(machine->libc, sizeof machine->libc, "a C library other than glibc");
#endif
#ifdef __clang__
    snprintf(machine->compiler, sizeof machine->compiler, "clang %d.%d", __clang_major__, __clang_minor__);
#else
    snprintf(machine->compiler, sizeof machine->compiler, "gcc %d.%d", __GNUC__, __GNUC_MINOR__);
#endif
    *shared = *machine;
    if (!child_start(&child, describe_percpu, shared, NULL) ||
        !child_turn(&child, 'r', &answer, 1, &patience, why)) {
        snprintf(shared->percpu_mode, sizeof shared->percpu_mode, "?");
        snprintf(shared->percpu_reason, sizeof shared->percpu_reason, "finding out failed");
    }
    child_stop(&child);
    *machine = *shared;
}

void machine_cpu_time(struct cpu_time *now)
{
    unsigned long long field[8] = {0}; /* user nice system idle iowait irq softirq steal */
    struct tms own;
    FILE *file = fopen("/proc/stat", "r");

    *now = (struct cpu_time){0};
    if (file == NULL)
        return;
    now->known = fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &field[0], &field[1], &field[2],
                        &field[3], &field[4], &field[5], &field[6], &field[7]) == 8;
    fclose(file);
    for (int i = 0; i < 8; i++)
        now->total += field[i];
    now->stolen = field[7];
    now->busy = now->total - field[3] - field[4] - now->stolen;
    times(&own);
    now->own = (uint64_t)(own.tms_utime + own.tms_stime + own.tms_cutime + own.tms_cstime);
}

void machine_noise(struct noise *noise, const struct cpu_time *before)
{
    struct cpu_time now;
    machine_cpu_time(&now);
    *noise = (struct noise){-1, -1};
    if (!now.known || !before->known || now.total <= before->total)
        return;
    double total = (double)(now.total - before->total);
    double others = (double)(now.busy - before->busy) - (double)(now.own - before->own);
    noise->others = others > 0 ? others / total : 0;
    noise->stolen = (double)(now.stolen - before->stolen) / total;
}

size_t machine_status_bytes(const char *name)
{
    char line[128];
    size_t kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            kib = strtoul(line + strlen(name), NULL, 10);
    if (file != NULL)
        fclose(file);
    return kib * 1024;
}
