// What programs ask of the van: who they are, and to send a SimpleApp message. Frames are Keyrange's own affair, so a van of the
// program's own is not possible: that fails when it is compiled.
#ifndef PS_INTERNAL_VAN_H_
#define PS_INTERNAL_VAN_H_

#include "ps/internal/message.h"

namespace ps {

class Van final {
public:
    static Van *Create(const std::string &type) = delete;
    const Node &my_node() const { return my_node_; }
    bool IsReady() const { return is_ready_; }
    int GetTimestamp() { return timestamp_++; }

    // Sends a message of a SimpleApp (meta: recver, app_id, customer_id, timestamp, request, head, body) and returns its bytes. Throws
    // for any other: keys and values go through KVWorker, barriers through Postoffice.
    int Send(const Message &message) {
        CHECK(message.meta.simple_app && message.meta.control.empty() && message.data.empty())
            << "Van::Send: expected a message of a SimpleApp, without data and without control, got " << message.DebugString();
        CHECK(send_) << "Van::Send: call ps::Start() first";
        send_(message);
        return static_cast<int>(message.meta.body.size());
    }

private:
    friend class Postoffice;
    Node my_node_;
    std::function<void(const Message &)> send_;
    std::atomic<bool> is_ready_{false};
    std::atomic<int> timestamp_{0};
};

}  // namespace ps

#endif  // PS_INTERNAL_VAN_H_
