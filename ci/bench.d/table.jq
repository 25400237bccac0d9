# The summary as Markdown.
def fixed($digits): pow(10; $digits) as $power | . * $power | round as $whole
    | if $digits == 0 then "\($whole)" else "\($whole / $power | floor).\("000\($whole % $power)"[-$digits:])" end;
def seconds: if . == null then "" else "\(fixed(1)) s" end;
def mega: if . == null then "" else "\(. / 1e6 | fixed(1)) MB" end;
def mebi: if . == null then "–" else . / 1048576 | fixed(0) end;
def times: if . == null then "" else " (\(fixed(3)) ×)" end;
def row: "| " + join(" | ") + " |";

.scenarios[]
| "#### \(.scenario)" + (if .hosts then ": \(.hosts) hosts, links \(.rate), uplink \(.uplink_rate), engine \(.engine), \(.store) store" else "" end),
  "",
  (if .limit_seconds then
    "Missing on each host: \(.missing_bytes | mega). Limit: \(.transfer_seconds | seconds) for the bytes and \(.engines_seconds | seconds) for the engines, \(.limit_seconds | seconds). The same bytes over plain TCP: \(.bare_seconds | seconds).",
    "",
    (["", "time", "of the limit", "uplink (of the unique bytes)", "busiest link (of the missing)", "memory, MiB: largest process / all", "CPU: controller / hosts / others"] | row),
    (["---", "---:", "---:", "---:", "---:", "---:", "---:"] | row),
    (.ways[] | [$texts[0][.way] // .way,
                (.seconds | seconds),
                (.times_limit | if . then "\(fixed(2)) ×" else "" end),
                (.uplink_bytes | mega) + (.times_unique | times),
                (.link_bytes | mega) + (.times_missing | times),
                "\(.largest_process_bytes | mebi) / \(.anonymous_bytes | mebi)",
                if .hosts_cpu_seconds == null then "" else "\(.controller_cpu_seconds | seconds) / \(.hosts_cpu_seconds | seconds) / \(.others_cpu_seconds | seconds)" end] | row),
    ""
   else empty end),
  (.skipped[] | "Not measured\(if .way == "" then "" else ": \($texts[0][.way] // .way)" end): \(.why)", "")
