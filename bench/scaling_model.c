/* SPDX-License-Identifier: MIT */
/*
 * scaling_model.c - how long a pair takes when many CPUs share lines: a closed queueing network, solved by
 * mean value analysis.
 *
 * The customers are CPUs. Each works on its own (a delay), and now and then needs one of the lines that it
 * shares with the CPUs of its domain (a queue each: a line is in one place at a time, and takes a while to
 * get to the next). With one such line this is the machine-repairman model; with several, exact MVA gives the
 * time in each:
 *
 *     R_k(n) = demand_k (1 + Q_k(n - 1))      X(n) = n / (own + sum of R_k(n))      Q_k(n) = X(n) R_k(n)
 *
 * M. Reiser and S. S. Lavenberg, "Mean-Value Analysis of Closed Multichain Queuing Networks", JACM 27(2),
 * 1980.
 */
#define _GNU_SOURCE
#include "scaling.h"

#define STATIONS 3

/* The mean time that a line takes to get here, from any one of the other `cpus` - 1 CPUs alike. */
static double mean_distance(const struct distances *distances, unsigned cpus)
{
    double sum = 0;
    unsigned before = 1;
    if (cpus < 2)
        return 0;
    for (unsigned i = 0; i < 3; i++) {
        unsigned within = i < 2 && distances->size[i] < cpus ? distances->size[i] : cpus;
        if (within > before) {
            sum += (within - before) * distances->ns[i];
            before = within;
        }
    }
    return sum / (cpus - 1);
}

/* Between CPUs of different domains, `cpus` of them in all: those in the same one do not count. */
static double mean_distance_beyond(const struct distances *distances, unsigned domain_cpus, unsigned cpus)
{
    if (cpus <= domain_cpus)
        return 0;
    double all = mean_distance(distances, cpus) * (cpus - 1);
    return (all - mean_distance(distances, domain_cpus) * (domain_cpus - 1)) / (cpus - domain_cpus);
}

/* The fork gate's lines are shared by CPUs whose numbers are multiples of gate_lines apart: few, so not a queue. */
static double gate_delay(const struct model *model, unsigned cpus)
{
    unsigned lines = model->gate_lines;
    unsigned sharers = lines != 0 ? (cpus + lines - 1) / lines : 1;
    unsigned level = model->distances.size[1] > lines ? 1 : 2;
    return model->exchanges * (sharers - 1) / sharers * model->distances.ns[level];
}

double model_ns(const struct model *model, unsigned cpus)
{
    unsigned domain_cpus = cpus < model->domain_cpus ? cpus : model->domain_cpus;
    double demand[STATIONS], queue[STATIONS] = {0}, ns = 0;
    double near = mean_distance(&model->distances, domain_cpus);
    double beyond = mean_distance_beyond(&model->distances, domain_cpus, cpus);

    if (!model->by_turns) /* of the visits, so many find that another CPU has been there since */
        near = near * (domain_cpus - 1) / domain_cpus;
    for (unsigned k = 0; k < STATIONS; k++) {
        double ours = model->lines[k], theirs = model->lines[STATIONS + k];
        double share =
            ours + theirs > 0 ? theirs / (ours + theirs) : 0; /* of those who come from elsewhere */
        demand[k] = ours * ((1 - share) * near + share * beyond) + theirs * beyond;
    }
    /* Each visit of a depot brings a magazine, but those in vain. */
    double brought =
        model->lines[OTHER_HEAD] * beyond + (model->lines[OWN_HEAD] - model->lines[OTHER_HEAD]) * near;
    double own = model->own + gate_delay(model, cpus) + brought * model->contents;
    for (unsigned n = 1; n <= domain_cpus; n++) {
        double wait[STATIONS];
        ns = own;
        for (unsigned k = 0; k < STATIONS; k++)
            ns += wait[k] = demand[k] * (1 + queue[k]);
        for (unsigned k = 0; k < STATIONS; k++)
            queue[k] = n / ns * wait[k];
    }
    return ns;
}

unsigned model_knee(const struct model *model, const struct model *better)
{
    for (unsigned cpus = 2; cpus <= SCALING_CPUS_MAX; cpus++)
        if (model_ns(model, cpus) > 1.1 * (better != NULL ? model_ns(better, cpus) : model_ns(model, 1)))
            return cpus;
    return 0;
}
