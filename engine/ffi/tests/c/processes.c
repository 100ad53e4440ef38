/* A job of several processes: a manager and two workers that push, and a server, each a process of its own.
 *   processes CARRIER        the manager; starts the others
 */
#define _POSIX_C_SOURCE 200809L
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { LIMIT_MS = 30000, KEYS = 100000, WORKERS = 2, SERVERS = 2 };

static const char secret[] = "between these processes";

static kr_member member(const char *address, const char *carrier)
{
    kr_member member;
    OK(kr_member_init(&member, address));
    member.carrier = carrier;
    member.secret = (const uint8_t *)secret;
    member.secret_bytes = sizeof secret;
    return member;
}

static void work(const kr_member *member)
{
    kr_worker *worker;
    kr_table_spec spec;
    kr_table table;
    kr_select which = {NULL, 0, 0};
    uint64_t *keys = (uint64_t *)malloc(KEYS * sizeof *keys);
    float *ones = (float *)malloc(KEYS * sizeof *ones), *got = (float *)malloc(KEYS * sizeof *got);
    const void *parts[1];
    kr_task tasks[8];
    int at;
    parts[0] = ones;
    for (at = 0; at < KEYS; at++) {
        keys[at] = (uint64_t)at * (UINT64_MAX / KEYS);
        ones[at] = 1;
    }
    OK(kr_worker_connect(member, &worker));
    OK(kr_table_spec_init(&spec));
    OK(kr_table_create(worker, &spec, LIMIT_MS, &table));
    OK(kr_keys_new(keys, KEYS, &which.list));
    for (at = 0; at < 8; at++)
        OK(kr_push(worker, table, which, parts, 1, KEYS, NULL, &tasks[at]));
    for (at = 0; at < 8; at++)
        OK(kr_wait(worker, tasks[at], LIMIT_MS));
    OK(kr_barrier(worker, "pushed", LIMIT_MS));
    OK(kr_pull(worker, table, which, got, KEYS, NULL, &tasks[0]));
    OK(kr_wait(worker, tasks[0], LIMIT_MS));
    for (at = 0; at < KEYS; at++)
        EXPECT(got[at] == 8 * WORKERS);
    OK(kr_keys_free(which.list));
    OK(kr_worker_finish(worker, LIMIT_MS));
    free(keys);
    free(ones);
    free(got);
}

int main(int count, char **arguments)
{
    char address[256], tiny[4];
    kr_manager *manager;
    kr_member wrong;
    kr_worker *refused;
    kr_job job;
    int node, code;
    pid_t nodes[SERVERS + WORKERS];
    if (count == 4) { /* ROLE ADDRESS CARRIER */
        kr_member node = member(arguments[2], arguments[3]);
        if (strcmp(arguments[1], "server") == 0)
            OK(kr_server_run(&node, 1, NULL, NULL));
        else
            work(&node);
        return 0;
    }
    EXPECT(count == 2);
    OK(kr_job_init(&job, SERVERS, WORKERS));
    OK(kr_manager_start(&job, "tcp:127.0.0.1:0", NULL, (const uint8_t *)secret, sizeof secret, &manager));
    SAYS(KR_INVALID, "room", kr_manager_address(manager, tiny, sizeof tiny));
    OK(kr_manager_address(manager, address, sizeof address));
    wrong = member(address, "auto");
    wrong.secret_bytes--;
    wrong.join_ms = 2000;
    STATUS(KR_NODE, kr_worker_connect(&wrong, &refused));
    wrong.carrier = "pigeon";
    SAYS(KR_INVALID, "pigeon", kr_worker_connect(&wrong, &refused));
    STATUS(KR_TIMED_OUT, kr_manager_wait(manager, 0));
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
    STATUS(KR_ENDED, kr_manager_wait(manager, LIMIT_MS));
    OK(kr_manager_free(manager));
    printf("processes over %s: all as expected\n", arguments[1]);
    return 0;
}
