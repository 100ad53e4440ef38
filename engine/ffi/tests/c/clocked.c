/* Clocked tables: what reads must and can hold for each staleness, own increments at once, rows that come unasked, who is late. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>

#include "check.h"

enum { KEYS = 150, CLOCKS = 20, WORKERS = 2, LIMIT_MS = 30000 };

/* What a run is of. */
typedef struct {
    uint16_t table;
    uint32_t value_type;
    kr_clocked_config config;
} run;

/* Keys over the whole key space, in no order. */
static uint64_t key_of(uint64_t row)
{
    return row * 0x9e3779b97f4a7c15u;
}

static kr_clocked_config config_of(uint64_t staleness, uint32_t eager)
{
    kr_clocked_config config;
    OK(kr_clocked_config_init(&config));
    config.staleness = staleness;
    config.eager = eager;
    return config;
}

static kr_table make_table(kr_worker *worker, uint16_t id, uint32_t value_type)
{
    kr_table_spec spec;
    kr_table table;
    OK(kr_table_spec_init(&spec));
    spec.id = id;
    spec.value_type = value_type;
    spec.width = 2;
    spec.aggregation = KR_CLOCKED;
    OK(kr_table_create(worker, &spec, LIMIT_MS, &table));
    EXPECT(table.aggregation == KR_CLOCKED && table.width == 2);
    return table;
}

/* The first value of a fetched row; the second is its negative, for that is what everybody adds. */
static double read_row(kr_worker *worker, kr_clocked *rows, const run *of, uint64_t key)
{
    double wide[3] = {9, 9, 9};
    float narrow[3] = {9, 9, 9};
    if (of->value_type == KR_F64) {
        OK(kr_clocked_get(worker, rows, key, wide));
        EXPECT(wide[1] == -wide[0] && wide[2] == 9);
        return wide[0];
    }
    OK(kr_clocked_get(worker, rows, key, narrow));
    EXPECT(narrow[1] == -narrow[0] && narrow[2] == 9);
    return narrow[0];
}

/* Adds 1 to the rows of these keys, all at once or one by one. */
static void add_one(kr_worker *worker, kr_clocked *rows, const run *of, const uint64_t *keys, int at_once)
{
    double wide[2 * KEYS];
    float narrow[2 * KEYS];
    int at;
    for (at = 0; at < 2 * KEYS; at++)
        narrow[at] = (float)(wide[at] = at % 2 == 0 ? 1 : -1);
    if (at_once)
        OK(kr_clocked_batch_inc(worker, rows, keys, KEYS, of->value_type == KR_F64 ? (void *)wide : (void *)narrow));
    for (at = 0; at < KEYS && !at_once; at++)
        OK(kr_clocked_inc(worker, rows, keys[at], of->value_type == KR_F64 ? (void *)wide : (void *)narrow));
}

/* The numbers agree with what was done. */
static void check_stats(kr_worker *worker, kr_clocked *rows, const run *of)
{
    kr_clocked_stats stats = {sizeof(kr_clocked_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    uint64_t reads[4], clock = 0;
    const uint64_t bound = of->config.staleness;
    OK(kr_clocked_describe(worker, rows, &stats));
    OK(kr_clocked_clock(worker, rows, &clock));
    OK(kr_clocked_reads(worker, rows, reads, 4));
    EXPECT(stats.clock == CLOCKS && clock == CLOCKS && stats.reads == 2 * KEYS * CLOCKS);
    EXPECT(reads[0] + reads[1] + reads[2] + reads[3] == stats.reads);
    EXPECT(stats.most_behind <= bound && stats.mean_behind <= (double)stats.most_behind);
    EXPECT(stats.waited_s > 0 && stats.rows_pulled >= KEYS);
    if (of->config.eager)
        EXPECT(stats.rows_pulled == KEYS && (bound == KR_UNBOUNDED || stats.rows_pushed > 0));
    else
        EXPECT(stats.rows_pushed == 0);
    if (!of->config.eager && bound == 0)
        EXPECT(stats.rows_pulled == KEYS * CLOCKS);
    if (of->config.early_bytes_per_s != 0)
        EXPECT(stats.early_rows_sent > 0 && stats.early_bytes_sent > stats.early_rows_sent * 16);
    else
        EXPECT(stats.early_rows_sent == 0 && stats.early_rows_received == 0);
    stats.size = sizeof(size_t) + sizeof(uint64_t); /* as a program with an older header would */
    stats.reads = 77;
    OK(kr_clocked_describe(worker, rows, &stats));
    EXPECT(stats.clock == CLOCKS && stats.reads == 77);
}

/* Every read lies between what must be seen and what can be. */
static void count(kr_worker *worker, uint32_t rank, const run *of)
{
    kr_table table = make_table(worker, of->table, of->value_type);
    const uint64_t bound = of->config.staleness;
    uint64_t keys[KEYS], clock;
    kr_clocked *rows;
    int at;
    for (at = 0; at < KEYS; at++)
        keys[at] = key_of((uint64_t)at);
    OK(kr_clocked_open(worker, table, &of->config, &rows));
    for (clock = 0; clock < CLOCKS; clock++) {
        const uint64_t must = clock > bound ? clock - bound : 0; /* of the other's clocks; of mine all */
        const uint64_t can = bound == KR_UNBOUNDED || clock + bound + 1 > CLOCKS ? (uint64_t)CLOCKS : clock + bound + 1;
        double before[KEYS];
        OK(kr_clocked_fetch(worker, rows, keys, KEYS, LIMIT_MS));
        for (at = 0; at < KEYS; at++) {
            before[at] = read_row(worker, rows, of, keys[at]);
            EXPECT(before[at] >= (double)(clock + must) && before[at] <= (double)(clock + can));
        }
        add_one(worker, rows, of, keys, (clock + rank) % 2 == 0);
        for (at = 0; at < KEYS; at++)
            EXPECT(read_row(worker, rows, of, keys[at]) == before[at] + 1);
        OK(kr_clocked_poll(worker, rows));
        OK(kr_clocked_close(worker, rows, LIMIT_MS));
    }
    OK(kr_clocked_flush(worker, rows, LIMIT_MS));
    check_stats(worker, rows, of);
    OK(kr_barrier(worker, "flushed", LIMIT_MS));
    OK(kr_clocked_fetch(worker, rows, keys, KEYS, LIMIT_MS)); /* at the last clock; with staleness 0 it holds all */
    EXPECT(bound != 0 || read_row(worker, rows, of, keys[3]) == WORKERS * CLOCKS);
    OK(kr_clocked_free(rows));
    OK(kr_barrier(worker, "read", LIMIT_MS));
}

/* The other does not close its clock: a wait says so, and can be taken up again. */
static void wait_for_the_late(kr_worker *worker, uint32_t rank)
{
    kr_table table = make_table(worker, 20, KR_F64);
    const kr_clocked_config config = config_of(0, rank);
    const double ones[2] = {1, 1};
    const uint64_t key = 5;
    double row[2];
    kr_clocked *rows;
    OK(kr_clocked_open(worker, table, &config, &rows));
    if (rank == 0) {
        OK(kr_clocked_inc(worker, rows, key, ones));
        OK(kr_clocked_close(worker, rows, LIMIT_MS));
        SAYS(KR_TIMED_OUT, "worker 1 (at 0)", kr_clocked_fetch(worker, rows, &key, 1, 100));
        SAYS(KR_TIMED_OUT, "rows of a clock at clock 1", kr_clocked_fetch(worker, rows, &key, 1, 0));
        SAYS(KR_INVALID, "not fetched at clock 1", kr_clocked_get(worker, rows, key, row));
        SAYS(KR_INVALID, "have not come yet", kr_clocked_close(worker, rows, LIMIT_MS));
    }
    OK(kr_barrier(worker, "late", LIMIT_MS));
    if (rank == 1)
        OK(kr_clocked_close(worker, rows, LIMIT_MS));
    OK(kr_clocked_fetch(worker, rows, &key, 1, LIMIT_MS));
    OK(kr_clocked_get(worker, rows, key, row));
    EXPECT(row[0] == 1 && row[1] == 1);
    OK(kr_clocked_flush(worker, rows, LIMIT_MS));
    OK(kr_clocked_free(rows));
}

static void *work(void *given)
{
    kr_worker *worker = (kr_worker *)given;
    kr_worker_info info = {sizeof(kr_worker_info), 0, 0, 0, 0, 0, 0};
    run runs[8];
    uint16_t at;
    for (at = 0; at < 8; at++) {
        runs[at].table = (uint16_t)(at + 1);
        runs[at].value_type = at % 2 == 0 ? KR_F32 : KR_F64;
    }
    runs[0].config = config_of(0, 0);
    runs[1].config = config_of(0, 1);
    runs[2].config = config_of(2, 0);
    runs[3].config = config_of(2, 1);
    runs[4].config = config_of(KR_UNBOUNDED, 0);
    runs[5].config = config_of(KR_UNBOUNDED, 1);
    runs[6].config = config_of(1, 1);
    runs[6].config.value_bound = 1.5;
    runs[7].config = config_of(1, 1);
    runs[7].config.early_bytes_per_s = 100000000;
    runs[7].config.early_burst_bytes = 4096;
    runs[7].config.early_order = KR_EARLY_FIFO;
    OK(kr_worker_describe(worker, &info));
    for (at = 0; at < 8; at++)
        count(worker, info.rank, &runs[at]);
    wait_for_the_late(worker, info.rank);
    OK(kr_worker_finish(worker, LIMIT_MS));
    return NULL;
}

int main(void)
{
    pthread_t threads[WORKERS];
    kr_worker *workers[WORKERS];
    kr_cluster *cluster;
    kr_job job;
    uint32_t rank;
    OK(kr_job_init(&job, 2, WORKERS));
    OK(kr_cluster_start(&job, NULL, &cluster));
    for (rank = 0; rank < WORKERS; rank++) {
        OK(kr_cluster_worker(cluster, rank, &workers[rank]));
        EXPECT(pthread_create(&threads[rank], NULL, work, workers[rank]) == 0);
    }
    for (rank = 0; rank < WORKERS; rank++)
        pthread_join(threads[rank], NULL);
    OK(kr_cluster_join(cluster));
    puts("clocked: all as expected");
    return 0;
}
