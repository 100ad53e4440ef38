// Rows of libsvm text, kept by feature: what a trainer needs that works on a range of features at a time.
#pragma once

#include <cstdint>
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <istream>
#include <stdexcept>
#include <string>
#include <vector>

/// The nonzero values of one feature.
struct column {
    std::vector<std::uint32_t> rows;
    std::vector<float> values;
};

/// Every `of`-th row from `first` on.
struct row_share {
    /// By feature number.
    std::vector<column> columns;
    /// +1 or -1 by row.
    std::vector<float> labels;

    /// Reads lines of "LABEL FEATURE:VALUE ..."; features rise within a line. Labels above 0 count as +1, others as -1.
    static std::vector<row_share> read(std::istream &text, std::size_t shares)
    {
        std::vector<row_share> made(shares);
        std::string line;
        for (std::size_t number = 1; std::getline(text, line); number++) {
            if (line.find_first_not_of(" \t\r") == std::string::npos || line[0] == '#')
                continue;
            made[number % shares].add(line, number);
        }
        std::size_t features = 0;
        for (const row_share &share : made)
            features = std::max(features, share.columns.size());
        for (row_share &share : made)
            share.columns.resize(features);
        return made;
    }

private:
    void add(const std::string &line, std::size_t number)
    {
        const auto wrong = [&](const char *expected) {
            return std::runtime_error("line " + std::to_string(number) + ": expected " + expected + ", got: " + line.substr(0, 60));
        };
        const char *at = line.c_str();
        char *end = nullptr;
        const float label = std::strtof(at, &end);
        if (end == at)
            throw wrong("a label");
        const std::uint32_t row = std::uint32_t(labels.size());
        labels.push_back(label > 0 ? 1.0f : -1.0f);
        long long before = -1;
        for (at = end; *(at += std::strspn(at, " \t\r")) != '\0'; at = end) {
            const long long feature = std::strtoll(at, &end, 10);
            if (end == at || *end != ':' || feature <= before || feature > 100000000)
                throw wrong("FEATURE:VALUE with rising features up to 100000000");
            before = feature;
            at = end + 1;
            const float value = std::strtof(at, &end);
            if (end == at)
                throw wrong("a value behind the colon");
            if (std::size_t(feature) >= columns.size())
                columns.resize(std::size_t(feature) + 1);
            columns[std::size_t(feature)].rows.push_back(row);
            columns[std::size_t(feature)].values.push_back(value);
        }
    }
};
