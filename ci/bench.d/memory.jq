# The lines of all runs: medians of each setting, and each one's ratio to k3s as k3d starts it.
def median: sort | .[length / 2 | floor];
def mib: if . == null then "" else . / 1048576 | round | tostring end;
def of(field): map(field) | map(values) | if length == 0 then null else median end;

$texts[0] as $texts
| group_by(.setting)
| map({setting: .[0].setting, text: ($texts[.[0].setting].text + if .[0].prepared then ", prepared" else "" end), prepared: .[0].prepared, memory: $texts[.[0].setting].size, runs: length, pods: .[0].pods,
       anonymous_median: of(.anonymous_median), anonymous_peak: (map(.anonymous_peak) | max), anonymous_each: map(.anonymous_median),
       left_median: of(.left_median), left_least: (map(.left_least) | map(values) | min), cpu_percent: of(.cpu_percent),
       written_per_minute: of(.written_per_minute), churn: (map(.churn) | map(values)), ready_seconds: (of(.ready_milliseconds) / 1000)})
| (map(select(.setting == "k3d")) | .[0].anonymous_median) as $base
| map(. + {ratio: (if $base == null then null else .anonymous_median / $base end)})
| sort_by((.setting == "agent"), .anonymous_median)
| if $output == "json" then . else
    "| Setting | machine | runs | anonymous MiB, median (of each run), peak | to k3d's | MiB left, median, least | CPU % of one core | MB written a minute | Ready after | pods |",
    "|---|---|---|---|---|---|---|---|---|---|",
    (.[] | "| \(.text) | \(.memory) | \(.runs) | \(.anonymous_median | mib) (\(.anonymous_each | map(mib) | join(", "))), \(.anonymous_peak | mib) | \(if .ratio == null then "" else "\(.ratio * 100 | round / 100) ×" end) | \(.left_median | mib)\(if .left_least == null then "" else ", \(.left_least | mib)" end) | \(.cpu_percent * 10 | round / 10) | \(if .written_per_minute == null then "" else .written_per_minute / 1e6 * 100 | round / 100 end) | \(.ready_seconds | round) s | \(.pods) |"),
    (map(select(.churn != [])) | if . == [] then empty else
        "",
        "| Changing workload | minutes | pods started (slowest round) | reads | refused, lost, restarted | killed by the kernel | anonymous MiB, peak | MiB left, least |",
        "|---|---|---|---|---|---|---|---|",
        (.[] | .text as $text | .churn[] | "| \($text) | \(.minutes) | \(.pods) (\(.slowest_start_milliseconds / 1000 | round) s) | \(.reads) | \(.refused), \(.rounds_lost), \(.restarts) | \(.killed_by_kernel) | \(.anonymous_peak | mib) | \(.left_least | mib) |")
     end)
  end
