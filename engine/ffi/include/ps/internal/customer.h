// Requests under way, by timestamp: how far each is, how it is waited for, and its callback.
#ifndef PS_INTERNAL_CUSTOMER_H_
#define PS_INTERNAL_CUSTOMER_H_

#include "ps/internal/exchange.h"
#include "ps/internal/postoffice.h"

namespace ps {
namespace internal {

// What a request keeps until it has ended.
struct Kept {
    std::function<void()> callback;
    std::unique_ptr<Exchange> exchange;
    // What holds the values that are pushed.
    std::shared_ptr<void> values;
    std::string error;
};

}  // namespace internal

class Customer : public internal::Attended {
public:
    using RecvHandle = std::function<void(const Message &)>;

    Customer(int app_id, int customer_id, const RecvHandle &handle)
        : app_id_(app_id), customer_id_(customer_id), handle_(handle) {
        Postoffice::Get()->AddCustomer(this);
    }
    ~Customer() override {
        Postoffice::Get()->RemoveCustomer(this);
        if (!member_) return;
        member_->leave(this);
        internal::Turn turn(member_->client().turns());
        pending_.clear();
    }
    Customer(const Customer &) = delete;
    Customer &operator=(const Customer &) = delete;

    int app_id() { return app_id_; }
    int customer_id() { return customer_id_; }

    // The connection; throws before Start().
    internal::Member &member() {
        std::call_once(joined_, [this] {
            member_ = Postoffice::Get()->MemberOf(customer_id_);
            member_->attend(this);
        });
        return *member_;
    }
    internal::Client &client() { return member().client(); }

    // A request that every node of the group will answer through AddResponse().
    int NewRequest(int recver) {
        const int expected = static_cast<int>(Postoffice::Get()->GetNodeIDs(recver).size());
        internal::Turn turn(client().turns());
        return Begin(0, nullptr, expected);
    }

    // A request that ends with a task or an exchange, or (neither, 0 expected) has ended. With the turn taken.
    int Begin(kr_task task, std::unique_ptr<internal::Kept> kept, int expected = 0) {
        if (pending_.size() % 1024 == 1023) Reap();
        pending_.emplace_back();
        Pending &pending = pending_.back();
        pending.task = task;
        pending.expected = expected;
        if (kept && kept->callback) ++callbacks_;
        pending.kept = std::move(kept);
        if (task == 0 && !pending.kept && expected == 0) pending.state = kDone;
        return first_ + static_cast<int>(pending_.size()) - 1;
    }

    // Returns when the request has ended, its callback included. Throws dmlc::Error with the reason if it ended badly.
    void WaitRequest(int timestamp) {
        CHECK(Current().first != this || Current().second != timestamp)
            << "Wait(" << timestamp << ") inside the callback of the same request would never return";
        internal::Client &connection = client();
        Hurry hurry;
        for (int tries = 0;; ++tries) {
            internal::Turn turn(connection.turns());
            Pending *pending = Find(timestamp);
            if (pending == nullptr || pending->state == kDone) return Raise(timestamp);
            if (pending->state == kOpen && Step(timestamp, *pending, internal::kSliceMs, turn)) continue;
            pending = Find(timestamp);
            const bool is_task = pending != nullptr && pending->task != 0 && pending->state == kOpen;
            turn.unlock();
            if (is_task) continue;
            if (tries == 0) hurry.begin(member());
            const std::string failure = member().failure();
            if (!failure.empty()) throw dmlc::Error("Wait(" + std::to_string(timestamp) + "): " + failure);
            internal::Turns::rest(tries);
        }
    }

    int NumResponse(int timestamp) {
        internal::Turn turn(client().turns());
        const Pending *pending = Find(timestamp);
        return pending == nullptr ? 0 : pending->received;
    }
    void AddResponse(int timestamp, int count = 1) {
        internal::Turn turn(client().turns());
        Pending *pending = Find(timestamp);
        if (pending == nullptr || pending->state != kOpen) return;
        pending->received += count;
        if (pending->task == 0 && !pending->kept && pending->received >= pending->expected) Conclude(timestamp, turn);
    }

    void Accept(const Message &message) { handle_(message); }

    // Moves requests on that nobody may be waiting for.
    bool Advance() override {
        internal::Turn turn(client().turns(), std::try_to_lock);
        if (!turn.owns_lock()) return callbacks_ > 0;
        const uint32_t slice_ms = callbacks_ > 0 ? internal::kSliceMs : 0;
        bool is_first = true;
        for (int timestamp = first_; Find(timestamp, true) != nullptr; ++timestamp) {
            Pending *pending = Find(timestamp);
            if (pending == nullptr || pending->state != kOpen || !pending->kept) continue;
            const bool has_ended = Step(timestamp, *pending, is_first ? slice_ms : 0, turn);
            if (!has_ended && is_first && !pending->kept->exchange) break;
            is_first = is_first && has_ended;
        }
        if (callbacks_ == 0 && !pending_.empty()) internal::Must(kr_poll(client().worker()), "poll");
        return callbacks_ > 0;
    }

private:
    enum State : uint8_t { kOpen, kRunning, kDone };
    struct Pending {
        kr_task task = 0;
        std::unique_ptr<internal::Kept> kept;
        int expected = 0, received = 0;
        State state = kOpen;
    };
    // Has the node fetch its mail quickly while somebody waits for it.
    struct Hurry {
        internal::Member *member = nullptr;
        void begin(internal::Member &of) {
            member = &of;
            member->hurry(1);
            member->wake();
        }
        ~Hurry() {
            if (member != nullptr) member->hurry(-1);
        }
    };

    // Which callback runs on this thread.
    static std::pair<Customer *, int> &Current() {
        static thread_local std::pair<Customer *, int> current(nullptr, 0);
        return current;
    }

    // Null if it has ended, or (with `or_future`) if there is none yet.
    Pending *Find(int timestamp, bool or_future = false) {
        const int64_t place = int64_t(timestamp) - first_;
        if (place >= int64_t(pending_.size()) || timestamp < 0) {
            if (or_future) return nullptr;
            throw dmlc::Error("timestamp: expected one of a request of this customer, got " + std::to_string(timestamp));
        }
        return place < 0 ? nullptr : &pending_[static_cast<size_t>(place)];
    }

    // Whether it has ended now; waits at most the slice. May give up the turn for a while.
    bool Step(int timestamp, Pending &pending, uint32_t slice_ms, internal::Turn &turn) {
        std::string error;
        if (pending.kept && pending.kept->exchange) {
            try {
                if (!pending.kept->exchange->step(slice_ms)) return false;
            } catch (const std::exception &caught) {
                error = caught.what();
            }
        } else if (pending.task != 0) {
            const kr_status status =
                slice_ms > 0 ? kr_wait(client().worker(), pending.task, slice_ms) : kr_test(client().worker(), pending.task);
            if (status == KR_TIMED_OUT || status == KR_PENDING) return false;
            if (status != KR_OK) error = std::string(kr_status_name(status)) + ": " + kr_last_error();
        } else if (pending.received < pending.expected) {
            return false;
        }
        if (!error.empty()) {
            if (!pending.kept) pending.kept.reset(new internal::Kept());
            pending.kept->error = error;
        }
        Conclude(timestamp, turn);
        return true;
    }

    // Ends a request: callback first, without the turn.
    void Conclude(int timestamp, internal::Turn &turn) {
        Pending *pending = Find(timestamp);
        std::unique_ptr<internal::Kept> kept = std::move(pending->kept);
        if (kept) {
            pending->state = kRunning;
            turn.unlock();
            RunCallback(timestamp, *kept);
            turn.lock();
            if (kept->callback) --callbacks_;
            if (!kept->error.empty() && failed_.size() < 1000) failed_[timestamp] = kept->error;
            pending = Find(timestamp);
        }
        pending->state = kDone;
        while (!pending_.empty() && pending_.front().state == kDone) {
            pending_.pop_front();
            ++first_;
        }
    }

    void RunCallback(int timestamp, internal::Kept &kept) {
        if (!kept.error.empty()) {
            LOG(ERROR) << "request " << timestamp << " of application " << app_id_ << ": " << kept.error;
            return;
        }
        if (!kept.callback) return;
        const std::pair<Customer *, int> outer = Current();
        Current() = std::make_pair(this, timestamp);
        try {
            kept.callback();
        } catch (const std::exception &error) {
            kept.error = std::string("its callback threw: ") + error.what();
        }
        Current() = outer;
    }

    void Raise(int timestamp) {
        auto failed = failed_.find(timestamp);
        if (failed == failed_.end()) return;
        const std::string error = failed->second;
        failed_.erase(failed);
        throw dmlc::Error("request " + std::to_string(timestamp) + ": " + error);
    }

    // Takes in the ends of the oldest requests that nobody has waited for.
    void Reap() {
        while (!pending_.empty()) {
            Pending &oldest = pending_.front();
            if (oldest.state == kOpen) {
                if (oldest.task == 0 || (oldest.kept && oldest.kept->callback)) return;
                const kr_status status = kr_test(client().worker(), oldest.task);
                if (status == KR_PENDING) return;
                if (status != KR_OK && failed_.size() < 1000) failed_[first_] = kr_last_error();
            } else if (oldest.state == kRunning) {
                return;
            }
            pending_.pop_front();
            ++first_;
        }
    }

    const int app_id_, customer_id_;
    const RecvHandle handle_;
    std::once_flag joined_;
    std::shared_ptr<internal::Member> member_;
    // All below only with the client's turn taken.
    std::deque<Pending> pending_;
    int first_ = 0;
    std::atomic<int> callbacks_{0};
    std::unordered_map<int, std::string> failed_;
};

inline void Postoffice::AddCustomer(Customer *customer) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto name = std::make_pair(customer->app_id(), customer->customer_id());
    CHECK(customers_.insert(std::make_pair(name, customer)).second)
        << "customer " << name.second << " of application " << name.first << " exists already";
}

inline void Postoffice::RemoveCustomer(Customer *customer) {
    std::lock_guard<std::mutex> lock(mutex_);
    customers_.erase(std::make_pair(customer->app_id(), customer->customer_id()));
}

// The one of the same application and, at a worker, customer number; else any of the application.
inline Customer *Postoffice::Addressee(const Meta &meta) const {
    auto exact = customers_.find(std::make_pair(meta.app_id, is_worker() || !meta.request ? meta.customer_id : meta.app_id));
    if (exact != customers_.end()) return exact->second;
    for (const auto &customer : customers_)
        if (customer.first.first == meta.app_id) return customer.second;
    return nullptr;
}

inline void Postoffice::Deliver(const Message *mail) {
    std::deque<std::pair<Customer *, Message>> due;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        if (mail != nullptr) early_.push_back(*mail);
        std::deque<Message> kept;
        for (const Message &message : early_) {
            Customer *to = Addressee(message.meta);
            if (to != nullptr) due.emplace_back(to, message);
            else kept.push_back(message);
        }
        early_.swap(kept);
    }
    for (auto &message : due) message.first->Accept(message.second);
}

}  // namespace ps

#endif  // PS_INTERNAL_CUSTOMER_H_
