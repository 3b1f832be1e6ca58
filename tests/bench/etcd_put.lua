-- SPDX-License-Identifier: MIT
-- For wrk: puts through etcd's gateway, each of a random key of 16 bytes and
-- 100 bytes that do not compress, both in base64 as it wants them. Ends with a
-- line of JSON, which peers_bench.py reads.

local alphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local threads = 0

-- 3n+1 random bytes: the last of them leaves four bits of its second letter
-- zero, hence one of four.
local function random_base64(triples)
    local letters = {}
    for i = 1, triples * 4 + 1 do
        local at = math.random(64)
        letters[i] = alphabet:sub(at, at)
    end
    local last = math.random(4)
    return table.concat(letters) .. ("AQgw"):sub(last, last) .. "=="
end

function setup(thread)
    threads = threads + 1
    thread:set("seed", os.time() * 1000 + threads)
end

function init()
    math.randomseed(seed)
    wrk.method = "POST"
    wrk.path = "/v3/kv/put"
    wrk.headers["Content-Type"] = "application/json"
    behind = '","value":"' .. random_base64(33) .. '"}'
end

function request()
    return wrk.format(nil, nil, nil, '{"key":"' .. random_base64(5) .. behind)
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '{"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, ' ..
        '"failed": %d}\n', summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99), errors.connect +
        errors.read + errors.write + errors.status + errors.timeout))
end
