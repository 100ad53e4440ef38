/* The sender of a push from lent memory does not touch the values: it is forbidden to, by mprotect(), while the server of another
 * process reads them. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { LIMIT_MS = 30000, VALUES = 1 << 20 };

static void push_unseen(kr_worker *worker, kr_table table)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = VALUES * sizeof(float);
    kr_select all = {NULL, 0, VALUES - 1};
    kr_worker_info before = {sizeof(kr_worker_info), 0, 0, 0, 0, 0, 0}, after = before;
    float *values, *got = (float *)malloc(bytes);
    const void *parts[1];
    void *memory;
    kr_task task;
    int at;
    OK(kr_alloc(worker, bytes + page, &memory));
    values = (float *)(((uintptr_t)memory + page - 1) / page * page); /* whole pages of it */
    for (at = 0; at < VALUES; at++)
        values[at] = (float)at;
    parts[0] = values;
    OK(kr_worker_describe(worker, &before));
    EXPECT(mprotect(values, bytes, PROT_NONE) == 0);
    OK(kr_push(worker, table, all, parts, 1, VALUES, NULL, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    EXPECT(mprotect(values, bytes, PROT_READ | PROT_WRITE) == 0);
    OK(kr_worker_describe(worker, &after));
    EXPECT(after.sent_bytes - before.sent_bytes < 64 * 1024);
    OK(kr_pull(worker, table, all, got, VALUES, NULL, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    EXPECT(memcmp(got, values, bytes) == 0);
    OK(kr_free(worker, memory));
    free(got);
}

int main(int count, char **arguments)
{
    char address[256];
    kr_manager *manager;
    kr_member member;
    kr_worker *worker;
    kr_table_spec spec;
    kr_table table;
    kr_job job;
    pid_t server;
    int code;
    if (count == 2) {
        OK(kr_member_init(&member, arguments[1]));
        OK(kr_server_run(&member, 1, NULL, NULL));
        return 0;
    }
    OK(kr_job_init(&job, 1, 1));
    OK(kr_manager_start(&job, "tcp:127.0.0.1:0", NULL, NULL, 0, &manager));
    OK(kr_manager_address(manager, address, sizeof address));
    server = fork();
    if (server == 0) {
        execl(arguments[0], arguments[0], address, (char *)NULL);
        _exit(127);
    }
    OK(kr_member_init(&member, address));
    member.carrier = "shm";
    OK(kr_worker_connect(&member, &worker));
    OK(kr_table_spec_init(&spec));
    spec.store = KR_DENSE;
    spec.last_key = VALUES - 1;
    OK(kr_table_create(worker, &spec, LIMIT_MS, &table));
    push_unseen(worker, table);
    OK(kr_worker_finish(worker, LIMIT_MS));
    EXPECT(waitpid(server, &code, 0) == server && code == 0);
    OK(kr_manager_wait(manager, LIMIT_MS));
    OK(kr_manager_free(manager));
    puts("lent: all as expected");
    return 0;
}
