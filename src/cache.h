/* SPDX-License-Identifier: MIT */
/* cache.h - what the rest of libweir may do to a cache beyond weir/cache.h. */
#ifndef WEIR_SRC_CACHE_H
#define WEIR_SRC_CACHE_H

#include "blocks.h"
#include "weir/cache.h"

/* As weir_cache_create(), with magazines from `chunks`. */
int weir__cache_create(struct weir_cache **cache, const struct weir_cache_config *config,
                       const struct weir__chunk_source *chunks);

#endif /* WEIR_SRC_CACHE_H */
