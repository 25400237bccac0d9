# The lines of all measurements, as one object a scenario: medians, the limit, and each way's distance to it.
def median: sort | length as $length
    | if $length == 0 then null elif $length % 2 == 1 then .[($length - 1) / 2] else (.[$length / 2 - 1] + .[$length / 2]) / 2 end;
def per($divisor): if . == null or $divisor == null or $divisor == 0 then null else . / $divisor end;
# Seconds for bytes over a link of so many bits a second; 0 is no limit.
def over($bits): if $bits == 0 then 0 else . * 8 / $bits end;
# Names in the order of their first line.
def in_order: reduce .[] as $name ([]; if index([$name]) then . else . + [$name] end);

# A way of two phases is also told without the first.
def with_phase: . + map(select(.first_phase_milliseconds != null)
    | .way += "-only" | .milliseconds -= .first_phase_milliseconds
    | .uplink_bytes = null | .controller_cpu_milliseconds = null | .hosts_cpu_milliseconds = null | .others_cpu_milliseconds = null);

# All runs of a way, as one.
def way($scenario; $limit):
    def of(field): [.[] | field | values] | median;
    {way: .[0].way, runs: length,
     seconds: of(.milliseconds) | per(1000),
     uplink_bytes: of(.uplink_bytes),
     link_bytes: of(.link_bytes | max),
     link_back_bytes: of(.link_back_bytes | max),
     largest_process_bytes: of(.largest_process_bytes),
     anonymous_bytes: of(.anonymous_bytes),
     controller_cpu_seconds: of(.controller_cpu_milliseconds) | per(1000),
     program_cpu_seconds: of(.program_cpu_milliseconds) | per(1000),
     hosts_cpu_seconds: of(.hosts_cpu_milliseconds) | per(1000),
     others_cpu_seconds: of(.others_cpu_milliseconds) | per(1000)}
    | . + {times_limit: (.seconds | per($limit)),
           times_unique: (.uplink_bytes | per($scenario.unique_bytes)),
           times_missing: (.link_bytes | per($scenario.missing_bytes))};

def scenario:
    (map(select(.kind == "scenario"))[0] // {scenario: .[0].scenario}) as $scenario
    | map(select(.kind == "measured")) as $measured
    | ([$measured[] | select(.way == "direct").milliseconds] | median | per(1000)) as $engines
    | (if $engines == null then null
       else [($scenario.unique_bytes | over($scenario.uplink_bits)), ($scenario.missing_bytes | over($scenario.rate_bits))] | max end) as $transfer
    | (if $engines == null then null else $transfer + $engines end) as $limit
    | ($measured | with_phase) as $measured
    | ($scenario | del(.kind)) + {
        transfer_seconds: $transfer,
        bare_seconds: ([.[] | select(.kind == "bare").milliseconds] | median | per(1000)),
        engines_seconds: $engines,
        limit_seconds: $limit,
        ways: [($measured | map(.way) | in_order)[] as $way | $measured | map(select(.way == $way)) | way($scenario; $limit)],
        skipped: (map(select(.kind == "skipped") | del(.kind, .scenario)) | unique)};

. as $lines
| {version: $version, processors: $processors,
   scenarios: [(map(.scenario) | in_order)[] as $name | $lines | map(select(.scenario == $name)) | scenario],
   measurements: map(select(.kind == "measured") | del(.kind))}
