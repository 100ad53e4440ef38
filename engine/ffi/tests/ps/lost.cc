// A worker whose server dies hears of it from Wait() instead of waiting for ever. The test kills the server once "pushing" was said.
#include <cstdio>

#include "ps/ps.h"

using namespace ps;

int main() {
    try {
        Start(0); // the scheduler may still be in it when the server is killed
        if (IsServer()) {
            auto server = new KVServer<float>(0);
            server->set_request_handle(KVServerDefaultHandle<float>());
        }
        if (!IsWorker()) {
            Finalize(0);
            return 1;
        }
    } catch (const dmlc::Error &error) {
        std::fprintf(stderr, "told: %s\n", error.what());
        return 0;
    }
    KVWorker<float> kv(0, 0);
    try {
        for (int at = 0;; ++at) {
            kv.Wait(kv.Push({1, kMaxKey}, {1, 1}));
            if (at == 100) std::puts("pushing"), std::fflush(stdout);
        }
    } catch (const dmlc::Error &error) {
        std::printf("lost: %s\n", error.what());
    }
    std::fflush(stdout);
    std::_Exit(0);
}
