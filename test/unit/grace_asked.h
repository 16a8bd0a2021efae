/* SPDX-License-Identifier: MIT */
/* A source of grace periods that are asked for, not waited for, and end when they are told to. */
#ifndef GRACE_ASKED_H
#define GRACE_ASKED_H

#include "fixtures.h"

struct asked {
    struct weir_grace *grace;
    uint64_t begun;   /* so many, */
    uint64_t allowed; /* ... of which so many may end */
    bool under_way;
};

static inline uint64_t asked_begin(void *arg)
{
    struct asked *asked = arg;
    if (weir_xchg_acq_rel(&asked->under_way, true))
        FIXTURE_FAIL("a grace period begins while one is under way");
    return weir_fetch_add_acq_rel(&asked->begun, UINT64_C(1)) + 1;
}

static inline bool asked_over(void *arg, uint64_t begun)
{
    struct asked *asked = arg;
    if (begun != weir_load_acquire(&asked->begun) || !weir_load_acquire(&asked->under_way))
        FIXTURE_FAIL("asked about a grace period that is not under way");
    if (begun > weir_load_acquire(&asked->allowed))
        return false;
    weir_store_release(&asked->under_way, false);
    return true;
}

static inline void asked_create(struct asked *asked, bool no_helper)
{
    struct weir_grace_source source = {
        .name = "asked", .begin = asked_begin, .over = asked_over, .no_helper = no_helper, .arg = asked};
    *asked = (struct asked){.allowed = 0};
    if (weir_grace_create(&asked->grace, &source))
        FIXTURE_FAIL("cannot create a source of grace periods");
}

/* So many may end. */
static inline void asked_allow(struct asked *asked, uint64_t allowed)
{
    weir_store_release(&asked->allowed, allowed);
}

/* Drives, or lets the helper, until so many have begun. */
static inline bool asked_drive_until_begun(struct asked *asked, uint64_t begun)
{
    FIXTURE_AWAIT((weir_grace_drive(asked->grace), weir_load_acquire(&asked->begun) == begun));
    return true;
}

#endif
