/* Filters of the caller's own in a job of several processes: push chains run in the workers', pull chains in the servers'.
 *   filter_processes CARRIER        the manager; starts the others
 */
#define _POSIX_C_SOURCE 200809L
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "filters.h"

enum { WORKERS = 2, SERVERS = 2 };

int main(int count, char **arguments)
{
    char address[256];
    kr_manager *manager;
    kr_job job;
    int node, code;
    pid_t nodes[SERVERS + WORKERS];
    if (count == 4) { /* ROLE ADDRESS CARRIER */
        kr_functions *functions = own_functions();
        kr_member member;
        OK(kr_member_init(&member, arguments[2]));
        member.carrier = arguments[3];
        if (strcmp(arguments[1], "server") == 0) {
            OK(kr_server_run(&member, 1, NULL, functions));
        } else {
            kr_worker *worker;
            OK(kr_worker_connect(&member, &worker));
            both_ways(worker, functions);
            OK(kr_worker_finish(worker, LIMIT_MS));
        }
        OK(kr_functions_free(functions));
        EXPECT(states == 0);
        return 0;
    }
    EXPECT(count == 2);
    OK(kr_job_init(&job, SERVERS, WORKERS));
    job.last_key = KEYS - 1; /* each server has a part of them */
    OK(kr_manager_start(&job, "tcp:127.0.0.1:0", NULL, NULL, 0, &manager));
    OK(kr_manager_address(manager, address, sizeof address));
    for (node = 0; node < SERVERS + WORKERS; node++) {
        nodes[node] = fork();
        if (nodes[node] == 0) {
            execl(arguments[0], arguments[0], node < SERVERS ? "server" : "worker", address, arguments[1], (char *)NULL);
            _exit(127);
        }
    }
    for (node = 0; node < SERVERS + WORKERS; node++)
        EXPECT(waitpid(nodes[node], &code, 0) == nodes[node] && code == 0);
    OK(kr_manager_wait(manager, LIMIT_MS));
    OK(kr_manager_free(manager));
    printf("filter_processes over %s: all as expected\n", arguments[1]);
    return 0;
}
