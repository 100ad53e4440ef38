/* Two copies of the library in one process, as when a plugin brings its own: each works, and neither touches the other's handles.
 *   copies PATH          of the other copy
 */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "check.h"

enum { LIMIT_MS = 20000 };

/* A function of the other copy; C has no way from a data pointer to a function pointer but the bytes. */
static void find(void *copy, const char *name, void *function)
{
    void *found = dlsym(copy, name);
    EXPECT(found != NULL);
    memcpy(function, &found, sizeof found);
}

int main(int count, char **arguments)
{
    kr_status (*other_start)(const kr_job *, kr_functions *, kr_cluster **);
    kr_status (*other_worker)(kr_cluster *, uint32_t, kr_worker **);
    kr_status (*other_poll)(kr_worker *);
    kr_status (*other_finish)(kr_worker *, uint32_t);
    kr_status (*other_join)(kr_cluster *);
    kr_status (*other_check)(uint32_t);
    const char *(*other_error)(void);
    kr_cluster *ours, *theirs;
    kr_worker *our_worker, *their_worker;
    kr_job job;
    void *copy;
    EXPECT(count == 2);
    copy = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    EXPECT(copy != NULL);
    find(copy, "kr_cluster_start", &other_start);
    find(copy, "kr_cluster_worker", &other_worker);
    find(copy, "kr_poll", &other_poll);
    find(copy, "kr_worker_finish", &other_finish);
    find(copy, "kr_cluster_join", &other_join);
    find(copy, "kr_abi_check", &other_check);
    find(copy, "kr_last_error", &other_error);
    EXPECT(other_poll != kr_poll);

    /* A program that was built with a newer header hears so from either. */
    SAYS(KR_INVALID, "interface version", kr_abi_check(KR_ABI_VERSION + 1));
    EXPECT(other_check(KR_ABI_VERSION + 1) == KR_INVALID && strstr(other_error(), "interface version"));

    OK(kr_job_init(&job, 1, 1));
    OK(kr_cluster_start(&job, NULL, &ours));
    EXPECT(other_start(&job, NULL, &theirs) == KR_OK);
    OK(kr_cluster_worker(ours, 0, &our_worker));
    EXPECT(other_worker(theirs, 0, &their_worker) == KR_OK);
    SAYS(KR_MISUSE, "another copy of the library", kr_poll(their_worker));
    EXPECT(other_poll(our_worker) == KR_MISUSE && strstr(other_error(), "another copy of the library"));
    SAYS(KR_MISUSE, "another copy of the library", kr_cluster_join(theirs));
    OK(kr_poll(our_worker));
    EXPECT(other_poll(their_worker) == KR_OK);
    OK(kr_worker_finish(our_worker, LIMIT_MS));
    EXPECT(other_finish(their_worker, LIMIT_MS) == KR_OK);
    OK(kr_cluster_join(ours));
    EXPECT(other_join(theirs) == KR_OK);
    puts("copies: all as expected");
    return 0;
}
