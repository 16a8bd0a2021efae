/* SPDX-License-Identifier: MIT */
/*
 * weir/detail/checked.h - private: what checked builds (WEIR_CHECKED defined) look for and others do not
 * pay for.
 *
 * A violated rule is a bug in the caller. The program stops with one line that names the function, the object
 * and the rule.
 */
#ifndef WEIR_DETAIL_CHECKED_H
#define WEIR_DETAIL_CHECKED_H

#include "weir/atomic.h"

#ifdef WEIR_CHECKED

#include <stdio.h>
#include <stdlib.h>

static inline void weir__check(bool holds, const char *function, const void *object, const char *rule)
{
    if (weir_likely(holds))
        return;
    fprintf(stderr, "weir: %s: %p: %s\n", function, object, rule);
    abort();
}

/* Checks that `last` ends the chain that begins with `first`, of nodes that have nothing but `next`. */
#define weir__check_chain(node_type, first, last, function)                                                  \
    do {                                                                                                     \
        weir__check((first) != NULL && (last) != NULL, function, (first), "a chain without nodes");          \
        const node_type *at_ = (first), *met_ = at_;                                                         \
        unsigned long steps_ = 0;                                                                            \
        while (at_ != NULL && at_ != (last)) {                                                               \
            at_ = weir_load_relaxed(&at_->next);                                                             \
            steps_++;                                                                                        \
            /* A cycle meets what was remembered at a power of two (R. P. Brent, 1980). */                   \
            if (at_ == met_)                                                                                 \
                at_ = NULL;                                                                                  \
            else if ((steps_ & (steps_ - 1)) == 0)                                                           \
                met_ = at_;                                                                                  \
        }                                                                                                    \
        weir__check(at_ == (last), function, (last), "is not reached from the chain's first node");          \
    } while (0)

#else

#define weir__check(holds, function, object, rule) ((void)0)
#define weir__check_chain(node_type, first, last, function) ((void)0)

#endif
#endif /* WEIR_DETAIL_CHECKED_H */
