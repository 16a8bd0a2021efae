/* SPDX-License-Identifier: MIT */
/* child.c - everything is measured in processes of their own, which take turns: see bench.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "pair_loop.h" /* PAIR_FD: programs that are not this one answer there too */

#define TICK_MILLISECONDS 100

void *shared_memory(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("weir-bench: mmap");
        exit(1);
    }
    return memory;
}

/* In the child: requests come in on standard input, answers go out on PAIR_FD. */
static void become_child(pid_t parent, int requests, int answers, FILE *errors)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    /* Out of the way of the numbers that the next calls hand out. */
    int answers_to = fcntl(answers, F_DUPFD_CLOEXEC, 64);
    int errors_to = errors != NULL ? fcntl(fileno(errors), F_DUPFD_CLOEXEC, 64) : STDERR_FILENO;
    dup2(requests, STDIN_FILENO);
    dup2(errors_to, STDERR_FILENO);
    dup2(errors_to, STDOUT_FILENO);
    dup2(answers_to, PAIR_FD);
}

bool child_start(struct child *child, void (*body)(void *arg), void *arg, FILE *errors)
{
    int requests[2], answers[2];

    *child = (struct child){-1, -1, -1};
    if (pipe2(requests, O_CLOEXEC) != 0)
        return false;
    if (pipe2(answers, O_CLOEXEC) != 0) {
        close(requests[0]);
        close(requests[1]);
        return false;
    }
    signal(SIGPIPE, SIG_IGN); /* of a child that has crashed, child_turn() learns by the answer */
    fflush(NULL);
    pid_t parent = getpid();
    child->pid = fork();
    if (child->pid == 0) {
        become_child(parent, requests[0], answers[1], errors);
        body(arg);
        fflush(NULL);
        _exit(0);
    }
    close(requests[0]);
    close(answers[1]);
    child->requests = requests[1];
    child->answers = answers[0];
    if (child->pid > 0)
        return true;
    child_stop(child);
    return false;
}

void child_stop(struct child *child)
{
    if (child->requests < 0)
        return;
    close(child->requests);
    close(child->answers);
    child->requests = child->answers = -1;
    if (child->pid > 0) {
        kill(child->pid, SIGKILL); /* if it has ended already, nothing happens */
        waitpid(child->pid, NULL, 0);
    }
}

static void name_the_end(const struct child *child, char why[160])
{
    int status;
    if (waitpid(child->pid, &status, 0) != child->pid)
        snprintf(why, 160, "disappeared");
    else if (WIFSIGNALED(status))
        snprintf(why, 160, "crashed: %s", strsignal(WTERMSIG(status)));
    else
        snprintf(why, 160, "ended with status %d", WEXITSTATUS(status));
}

bool child_turn(struct child *child, char request, void *answer, size_t bytes,
                const struct patience *patience, char why[160])
{
    double deadline = seconds_now() + patience->seconds;
    struct pollfd ready = {child->answers, POLLIN, 0};

    if (write(child->requests, &request, 1) == 1) {
        while (poll(&ready, 1, TICK_MILLISECONDS) == 0 && seconds_now() < deadline)
            if (patience->tick != NULL)
                patience->tick(patience->arg);
        if (ready.revents != 0 && read(child->answers, answer, bytes) == (ssize_t)bytes)
            return true;
    }
    if (seconds_now() >= deadline)
        snprintf(why, 160, "hung: stopped after %.0f seconds", patience->seconds);
    else
        name_the_end(child, why);
    child_stop(child);
    return false;
}

char child_request(void)
{
    char request;
    return read(STDIN_FILENO, &request, 1) == 1 ? request : '\0';
}

void child_answer(void)
{
    ssize_t written = write(PAIR_FD, "", 1);
    (void)written; /* without a parent we shall be killed */
}

void child_words(FILE *errors, char why[160])
{
    char line[256];
    rewind(errors);
    while (fgets(line, sizeof line, errors) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] != '\0')
            snprintf(why, 160, "%.159s", line);
        if (strncmp(line, "EAL: ", 5) == 0 && strncmp(line, "EAL: Detected", 13) != 0)
            break;
    }
}

void child_become(const char *program, char *const argv[])
{
    char path[512];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 64);
    path[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(path, '/');
    snprintf(slash != NULL ? slash + 1 : path, 64, "%s", program);
    execv(path, argv);
    if (errno == ENOENT)
        fputs("its program was not built; build/bench.log says why\n", stderr);
    else
        fprintf(stderr, "%s: %s\n", program, strerror(errno));
}
