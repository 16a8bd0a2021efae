/* SPDX-License-Identifier: MIT */
/* weir/weir.h - everything. Each header also stands alone. */
#ifndef WEIR_WEIR_H
#define WEIR_WEIR_H

#include "weir/atomic.h"
#include "weir/cache.h"
#include "weir/free_rcu.h"
#include "weir/grace.h"
#include "weir/llist.h"
#include "weir/magazine.h"
#include "weir/mempool.h"
#include "weir/page_cache.h"
#include "weir/percpu.h"
#include "weir/pool.h"
#include "weir/recycle.h"
#include "weir/shrinker.h"
#include "weir/stack.h"

#endif /* WEIR_WEIR_H */
