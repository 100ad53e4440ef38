/* The other half of a job of several processes: its manager and one server with two threads.
 *
 *     serve ADDRESS        "tcp:127.0.0.1:7000", port 0 for any
 *
 * Prints where the manager listens, serves one trainer, and ends with it. */
#include <stdio.h>
#include <stdlib.h>

#include "keyrange.h"

#define CHECK(call)                                            \
    do {                                                       \
        if ((call) != KR_OK) {                                 \
            fprintf(stderr, "%s: %s\n", #call, kr_last_error()); \
            exit(1);                                           \
        }                                                      \
    } while (0)

int main(int argc, char **argv)
{
    kr_job job;
    kr_manager *manager;
    kr_member member;
    char address[256];
    if (argc != 2) {
        fprintf(stderr, "usage: serve ADDRESS, such as tcp:127.0.0.1:7000\n");
        return 2;
    }
    CHECK(kr_abi_check(KR_ABI_VERSION));
    CHECK(kr_job_init(&job, 1, 1)); /* one server, one worker */
    job.join_ms = 60000;            /* the trainer must come within a minute */
    CHECK(kr_manager_start(&job, argv[1], NULL, NULL, 0, &manager));
    CHECK(kr_manager_address(manager, address, sizeof address));
    printf("%s\n", address);
    fflush(stdout);

    CHECK(kr_member_init(&member, address));
    member.join_ms = job.join_ms;
    CHECK(kr_server_run(&member, 2, NULL, NULL)); /* until the job's end */
    CHECK(kr_manager_wait(manager, 10000));
    CHECK(kr_manager_free(manager));
    return 0;
}
