/* SPDX-License-Identifier: MIT */
/* What creates per-CPU slots fails when they cannot be had: every such function of the library. */
#include "fixtures.h"
#include "unit/caught.h"
#include "weir/cache.h"
#include "weir/free_rcu.h"
#include "weir/page_cache.h"

#include "weir_test.h"

Test(create, unknown_percpu_mode_fails_every_create_and_is_named_in_one_line)
{
    static const struct weir_cache_ops ops = {backend_alloc, backend_free};
    struct weir_cache_config config = WEIR_CACHE_CONFIG_INIT;
    struct weir_cache *cache = (void *)&config;
    struct weir_reclaimer *reclaimer = (void *)&config;
    struct weir_page_cache *pages = (void *)&config;
    char text[500];
    config.ops = &ops;

    setenv("WEIR_PERCPU", "bogus", 1);
    catch_stderr();
    int caches = weir_cache_create(&cache, &config);
    int reclaimers = weir_reclaimer_create(&reclaimer, NULL);
    int page_caches = weir_page_cache_create(&pages, NULL);
    unsigned lines = caught_lines(text, sizeof text);
    cr_assert_eq(caches, -EINVAL);
    cr_assert_eq(reclaimers, -EINVAL);
    cr_assert_eq(page_caches, -EINVAL);
    cr_assert_null(cache);
    cr_assert_null(reclaimer);
    cr_assert_null(pages);
    cr_assert_eq(lines, 1u, "%s", text);
    cr_assert_not_null(strstr(text, "bogus"));
}
