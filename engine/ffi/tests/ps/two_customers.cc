// Two customers in one worker process, each on a thread, each counting as a worker.
#include <cstdio>

#include "ps/ps.h"

using namespace ps;

static void Work(int customer_id) {
    Start(customer_id);
    {
        KVWorker<float> kv(0, customer_id);
        std::vector<Key> keys(1000);
        std::vector<float> ones(keys.size(), 1), got;
        for (size_t at = 0; at < keys.size(); ++at) keys[at] = kMaxKey / keys.size() * at;
        for (int at = 0; at < 10; ++at) CHECK_EQ(kv.Push(keys, ones), at);
        for (int at = 0; at < 10; ++at) kv.Wait(at);
        Postoffice::Get()->Barrier(customer_id, kWorkerGroup);
        kv.Wait(kv.Pull(keys, &got));
        for (float value : got) CHECK_EQ(value, 10 * NumWorkers());
    }
    Finalize(customer_id);
}

int main() {
    bool exited = false;
    RegisterExitCallback([] { CHECK(false) << "replaced by the next"; });
    RegisterExitCallback([&] { exited = true; });
    if (IsWorker()) {
        std::thread first(Work, 0), second(Work, 1);
        first.join();
        second.join();
    } else {
        Start(0);
        KVServer<float> *server = nullptr;
        if (IsServer()) {
            server = new KVServer<float>(0);
            server->set_request_handle(KVServerDefaultHandle<float>());
        }
        Finalize(0);
        delete server;
    }
    CHECK(exited);
    std::puts("two_customers: all as expected");
    return 0;
}
