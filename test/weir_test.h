/* SPDX-License-Identifier: MIT */
/*
 * Test(suite, name) and the cr_assert family for the unit tests: Criterion's own, or, where Criterion cannot start
 * (ThreadSanitizer), the same names over fork and waitpid.
 */
#ifndef WEIR_TEST_H
#define WEIR_TEST_H

/* Criterion's macros, and the ones below, rely on extensions that -Wpedantic would report in every test. */
#pragma GCC system_header

#ifndef WEIR_TEST_SHIM
#include <criterion/criterion.h>
#else

#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct weir_test {
    const char *suite, *name;
    void (*run)(void), (*init)(void), (*fini)(void);
    int signal;     /* the signal that the test has to die of; 0: it has to return */
    int exit_code;  /* the status that it has to exit with */
    double timeout; /* seconds */
    struct weir_test *next;
};

static struct weir_test *weir_tests;

#define Test(s, n, ...)                                                                                      \
    static void s##_##n##_run(void);                                                                         \
    static struct weir_test s##_##n##_test = {.suite = #s, .name = #n, .run = s##_##n##_run, ##__VA_ARGS__}; \
    __attribute__((constructor)) static void s##_##n##_add(void)                                             \
    {                                                                                                        \
        s##_##n##_test.next = weir_tests;                                                                    \
        weir_tests = &s##_##n##_test;                                                                        \
    }                                                                                                        \
    static void s##_##n##_run(void)

__attribute__((format(printf, 5, 6), unused)) static void
weir_check(const char *file, int line, const char *text, bool holds, const char *format, ...)
{
    if (holds)
        return;
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s:%d: assertion failed: %s: ", file, line, text);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    fflush(NULL);
    _exit(1);
}

#define weir_check_(text, holds, ...) weir_check(__FILE__, __LINE__, text, (holds), "" __VA_ARGS__)
#define cr_assert(c, ...) weir_check_(#c, (c) ? true : false, __VA_ARGS__)
#define cr_assert_not(c, ...) weir_check_("not " #c, !(c), __VA_ARGS__)
#define cr_assert_null(p, ...) weir_check_(#p " == NULL", (p) == NULL, __VA_ARGS__)
#define cr_assert_not_null(p, ...) weir_check_(#p " != NULL", (p) != NULL, __VA_ARGS__)
#define cr_assert_eq(a, b, ...) weir_check_(#a " == " #b, (a) == (b), __VA_ARGS__)
#define cr_assert_neq(a, b, ...) weir_check_(#a " != " #b, (a) != (b), __VA_ARGS__)
#define cr_assert_lt(a, b, ...) weir_check_(#a " < " #b, (a) < (b), __VA_ARGS__)
#define cr_assert_leq(a, b, ...) weir_check_(#a " <= " #b, (a) <= (b), __VA_ARGS__)
#define cr_assert_gt(a, b, ...) weir_check_(#a " > " #b, (a) > (b), __VA_ARGS__)
#define cr_assert_geq(a, b, ...) weir_check_(#a " >= " #b, (a) >= (b), __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) weir_check_(#a " eq " #b, strcmp((a), (b)) == 0, __VA_ARGS__)
#define cr_assert_fail(...) weir_check_("unreachable", false, __VA_ARGS__)

static bool weir_test_passes(const struct weir_test *test)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        alarm(test->timeout > 0 ? (unsigned)test->timeout + 1 : 0);
        if (test->init)
            test->init();
        test->run();
        if (test->fini)
            test->fini();
        exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        return false;
    return test->signal ? WIFSIGNALED(status) && WTERMSIG(status) == test->signal
                        : WIFEXITED(status) && WEXITSTATUS(status) == test->exit_code;
}

int main(void)
{
    unsigned run = 0, failed = 0;
    for (const struct weir_test *test = weir_tests; test; test = test->next, run++) {
        bool ok = weir_test_passes(test);
        if (!ok)
            failed++;
        fprintf(stderr, "[%s] %s::%s\n", ok ? "PASS" : "FAIL", test->suite, test->name);
    }
    fprintf(stderr, "%u tests, %u failed\n", run, failed);
    return failed != 0 || run == 0;
}

#endif
#endif
