// SArray, ranges, checks, messages: what programs rely on without a network.
#include <cstdio>

#include "throws.h"
#include "ps/base.h"
#include "ps/internal/message.h"
#include "ps/sarray.h"

using namespace ps;

static int lens_of(const SArray<int> &lens = {}) { return static_cast<int>(lens.size()); }

static void sharing() {
    SArray<int> a(3, 7), b(a);
    b[1] = 9;
    CHECK_EQ(a[1], 9);
    SArray<char> bytes(a);
    CHECK_EQ(bytes.size(), 3 * sizeof(int));
    SArray<float> floats;
    floats = bytes;
    CHECK_EQ(static_cast<void *>(floats.data()), static_cast<void *>(a.data()));
    CHECK_EQ(a.ptr().use_count(), 4);
    SArray<int> part = a.segment(1, 3);
    part[0] = 4;
    CHECK_EQ(a[1], 4);
    a.clear();
    b.clear();
    bytes.clear();
    floats.clear();
    CHECK_EQ(part[1], 7);
    CHECK_EQ(part.ptr().use_count(), 1);
    CHECK(throws([&] { part.segment(1, 3); }));
    CHECK(throws([] { SArray<int> odd(SArray<char>(5)); }));
    const SArray<int> fixed(2, 1);
    fixed.data()[0] = 5;
    CHECK_EQ(fixed.front(), 5);
}

static void owning() {
    int freed = 0;
    int memory[4] = {1, 2, 3, 4};
    {
        SArray<int> owner;
        owner.reset(memory, 4, [&freed](int *) { ++freed; });
        SArray<char> other(owner);
        owner.clear();
        CHECK_EQ(freed, 0);
    }
    CHECK_EQ(freed, 1);
    SArray<int> borrowed(memory, 4, false);
    borrowed[0] = 10;
    CHECK_EQ(memory[0], 10);
    SArray<int> given(new int[2], 2, true);
    std::vector<int> values = {5, 6};
    SArray<int> copy(values);
    copy[0] = 1;
    CHECK_EQ(values[0], 5);
    std::shared_ptr<std::vector<int>> shared(new std::vector<int>(values));
    SArray<int> alias(shared);
    alias[0] = 2;
    CHECK_EQ((*shared)[0], 2);
    shared.reset();
    CHECK_EQ(alias[1], 6);
}

static void growing() {
    SArray<int> a;
    for (int at = 0; at < 100; ++at) a.push_back(at);
    CHECK_EQ(a.size(), 100u);
    CHECK_EQ(a.back(), 99);
    SArray<int> before(a);
    a.resize(1000, 3);
    CHECK_EQ(a[99], 99);
    CHECK_EQ(a[999], 3);
    CHECK_EQ(before.size(), 100u);
    a.resize(10);
    CHECK_GE(a.capacity(), 1000u);
    a.append(a);
    CHECK_EQ(a.size(), 20u);
    CHECK_EQ(a[19], 9);
    a.pop_back();
    CHECK_EQ(a.size(), 19u);
    CHECK_EQ(lens_of(), 0);
    CHECK_EQ(lens_of({1, 2, 3}), 3);
    SArray<Key> keys = {1, 3, 5, 7};
    Range range = FindRange(keys, Key(2), Key(7));
    CHECK_EQ(range.begin(), 1u);
    CHECK_EQ(range.size(), 2u);
    keys = {4};
    CHECK_EQ(keys.size(), 1u);
    std::ostringstream text;
    text << a;
    CHECK(!text.str().empty());
}

static void messages() {
    Message message;
    message.AddData(SArray<float>(4, 1));
    message.AddData(SArray<char>(3));
    CHECK_EQ(message.data.size(), 2u);
    CHECK_EQ(message.meta.data_size, 19);
    CHECK_EQ(message.meta.data_type[0], FLOAT);
    CHECK_EQ(message.meta.data_type[1], OTHER);
    CHECK_EQ(kMaxKey + 1, Key(0));
    Environment::Init({{"PS_TEST_SETTING", "12"}});
    CHECK_EQ(GetEnv("PS_TEST_SETTING", 3), 12);
    CHECK_EQ(GetEnv("PS_TEST_NOWHERE", 3), 3);
    CHECK(throws([] { CHECK_EQ(1, 2) << "told"; }));
    CHECK(throws([] { LOG(FATAL) << "told"; }));
    int *null = nullptr;
    CHECK(throws([&] { CHECK_NOTNULL(null); }));
    LOG_IF(WARNING, false) << "unseen";
    VLOG(1) << "unseen";
    if (lens_of() == 0) CHECK(true) << "no dangling else";
    DCHECK_EQ(lens_of(), 0);
}

int main() {
    sharing();
    owning();
    growing();
    messages();
    std::puts("arrays: all as expected");
    return 0;
}
