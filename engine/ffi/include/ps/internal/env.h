// Settings: those the program gave, then those of the process's environment.
#ifndef PS_INTERNAL_ENV_H_
#define PS_INTERNAL_ENV_H_

#include <cstdlib>
#include <memory>
#include <string>
#include <unordered_map>

namespace ps {

class Environment {
public:
    static Environment *Get() { return _GetSharedRef(nullptr).get(); }
    static std::shared_ptr<Environment> _GetSharedRef() { return _GetSharedRef(nullptr); }

    // Replaces the program's settings. Before Start().
    static Environment *Init(const std::unordered_map<std::string, std::string> &settings) {
        return _GetSharedRef(&settings).get();
    }

    // Null where the setting is nowhere.
    const char *find(const char *key) const {
        auto given = settings_.find(key);
        return given == settings_.end() ? std::getenv(key) : given->second.c_str();
    }

private:
    Environment() {}
    static std::shared_ptr<Environment> _GetSharedRef(
        const std::unordered_map<std::string, std::string> *settings) {
        static std::shared_ptr<Environment> one(new Environment());
        if (settings != nullptr) one->settings_ = *settings;
        return one;
    }
    std::unordered_map<std::string, std::string> settings_;
};

}  // namespace ps

#endif  // PS_INTERNAL_ENV_H_
