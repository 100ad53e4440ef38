// What programs ask of the van: who they are. Frames are Keyrange's own affair.
#ifndef PS_INTERNAL_VAN_H_
#define PS_INTERNAL_VAN_H_

#include "ps/internal/message.h"

namespace ps {

class Van {
public:
    const Node &my_node() const { return my_node_; }
    bool IsReady() const { return is_ready_; }
    int GetTimestamp() { return timestamp_++; }

private:
    friend class Postoffice;
    Node my_node_;
    std::atomic<bool> is_ready_{false};
    std::atomic<int> timestamp_{0};
};

}  // namespace ps

#endif  // PS_INTERNAL_VAN_H_
