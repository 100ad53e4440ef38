// A started customer: its connection, its node id, and the thread that brings its mail and drives requests nobody waits for.
#ifndef PS_INTERNAL_MEMBER_H_
#define PS_INTERNAL_MEMBER_H_

#include "ps/internal/client.h"

namespace ps {
namespace internal {

// Who takes mail and has requests under way.
class Attended {
public:
    virtual ~Attended() {}
    // Moves requests on. True while some with a callback are under way.
    virtual bool Advance() = 0;
};

// Bytes of a body that travel in one letter, less than a frame of the job; and of a whole body.
static const size_t kLetterBytes = 128 << 10, kBodyBytesMax = size_t(1) << 30;

class Member {
public:
    Member(const kr_member &member, const std::function<void(const Message *)> &deliver)
        : client_(member), deliver_(deliver) {}
    ~Member() { stop(); }

    Client &client() { return client_; }
    int id() const { return id_; }
    void set_id(int id) { id_ = id; }

    void start() {
        thread_ = std::thread([this] { run(); });
    }
    void stop() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            stopped_ = true;
        }
        news_.notify_all();
        if (thread_.joinable()) thread_.join();
    }

    void attend(Attended *who) {
        std::lock_guard<std::recursive_mutex> lock(attended_mutex_);
        attended_.push_back(who);
    }
    // When this returns, the thread does not touch `who` any more.
    void leave(Attended *who) {
        std::lock_guard<std::recursive_mutex> lock(attended_mutex_);
        attended_.erase(std::remove(attended_.begin(), attended_.end(), who), attended_.end());
    }

    // A request with a callback has begun.
    void wake() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            woken_ = true;
        }
        news_.notify_one();
    }
    // While somebody waits for mail, it is fetched more often.
    void hurry(int more) { hurried_ += more; }

    // Why nothing comes any more, or "".
    std::string failure() {
        std::lock_guard<std::mutex> lock(mutex_);
        return failure_;
    }

    // To a node or a group.
    void post(int to, const Message &message) {
        const Meta &meta = message.meta;
        Writer out;
        out.put(int32_t(to)).put(int32_t(meta.head)).put(int32_t(meta.app_id)).put(int32_t(meta.customer_id));
        out.put(int32_t(meta.timestamp)).put(int32_t(id_)).put(meta.request).put(uint64_t(meta.body.size()));
        if (meta.body.size() > kBodyBytesMax)
            throw dmlc::Error("SimpleApp: expected a body of at most 1 GiB, got " + std::to_string(meta.body.size()) + " bytes");
        // Letters of one body follow each other; its first says how long it is.
        size_t at = 0;
        do {
            Writer letter(out);
            client_.ask(0, "post", letter.text(meta.body.substr(at, kLetterBytes)).bytes());
            at += kLetterBytes;
        } while (at < meta.body.size());
    }

private:
    void run() {
        try {
            for (bool is_busy = false; rest(is_busy);) {
                fetch();
                deliver_(nullptr);
                is_busy = advance();
            }
        } catch (const std::exception &error) {
            LOG(ERROR) << "node " << id_ << ": " << error.what();
            std::lock_guard<std::mutex> lock(mutex_);
            failure_ = error.what();
        }
    }

    bool advance() {
        bool is_busy = false;
        std::lock_guard<std::recursive_mutex> lock(attended_mutex_);
        for (size_t at = 0; at < attended_.size(); ++at) is_busy = attended_[at]->Advance() || is_busy;
        return is_busy;
    }

    // Until there is something to do; false at the end.
    bool rest(bool is_busy) {
        std::unique_lock<std::mutex> lock(mutex_);
        const auto nap = std::chrono::microseconds(is_busy ? 0 : hurried_ > 0 ? 50 : 2000);
        if (!is_busy) news_.wait_for(lock, nap, [this] { return stopped_ || woken_; });
        woken_ = false;
        return !stopped_;
    }

    void fetch() {
        const auto now = std::chrono::steady_clock::now();
        if (now < next_fetch_) return;
        next_fetch_ = now + std::chrono::microseconds(hurried_ > 0 ? 50 : 1900);
        const std::string mail = client_.ask(0, "fetch", Writer().put(int32_t(id_)).bytes()).at(0);
        for (Reader in(mail); in.left() > 0;) {
            const std::string text = in.text();
            Reader letter(text);
            Message message;
            Meta &meta = message.meta;
            meta.head = letter.get<int32_t>();
            meta.app_id = letter.get<int32_t>();
            meta.customer_id = letter.get<int32_t>();
            meta.timestamp = letter.get<int32_t>();
            meta.sender = letter.get<int32_t>();
            meta.request = letter.get<bool>();
            const uint64_t body_bytes = letter.get<uint64_t>();
            if (!gather(&meta, body_bytes, letter.text())) continue;
            meta.recver = id_;
            meta.simple_app = true;
            deliver_(&message);
        }
    }

    // Whether the body is whole with this letter.
    bool gather(Meta *meta, uint64_t size, const std::string &text) {
        if (text.size() == size) {
            meta->body = text;
            return true;
        }
        CHECK_LE(size, kBodyBytesMax) << "a letter of a body that is too long";
        const auto name = std::make_tuple(meta->sender, meta->app_id, meta->customer_id, meta->timestamp, meta->request);
        std::string &body = bodies_[name];
        body += text;
        if (body.size() < size) return false;
        meta->body.swap(body);
        bodies_.erase(name);
        return true;
    }

    Client client_;
    // Takes a message, or null now and then.
    std::function<void(const Message *)> deliver_;
    int id_ = 0;
    std::thread thread_;
    std::mutex mutex_;
    // Recursive: callbacks may begin and end customers.
    std::recursive_mutex attended_mutex_;
    std::condition_variable news_;
    bool stopped_ = false, woken_ = false;
    std::string failure_;
    std::atomic<int> hurried_{0};
    std::chrono::steady_clock::time_point next_fetch_;
    std::vector<Attended *> attended_;
    // Bodies that have come in part, by sender, application, customer, timestamp, and whether they are requests.
    std::map<std::tuple<int, int, int, int, bool>, std::string> bodies_;
};

}  // namespace internal
}  // namespace ps

#endif  // PS_INTERNAL_MEMBER_H_
