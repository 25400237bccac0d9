# Tries $targets from this machine: read only, as any user, with bash, or else nc. reach.rs reads what this prints.
# A packet that is refused has come there and back. Lines are printed whole, so that tries side by side do not mix.
said() {
    case $1 in
        *efused*) echo "reach=$2 refused" ;;
        *unreachable* | *"o route"* | *rohibited*) echo "reach=$2 unreachable" ;;
        *) echo "reach=$2 silent" ;;
    esac
}

tcp() {
    if command -v bash >/dev/null 2>&1; then
        if words=$(timeout 2 bash -c "exec 3<>/dev/tcp/$1/$2" 2>&1); then echo "reach=tcp:$1:$2 open"; else said "$words" "tcp:$1:$2"; fi
    elif command -v nc >/dev/null 2>&1; then
        if words=$(timeout 2 nc -w 1 "$1" "$2" 2>&1 </dev/null); then echo "reach=tcp:$1:$2 open"; else said "$words" "tcp:$1:$2"; fi
    fi
}

# What comes back for the first packet is told when the second one is sent.
udp() {
    if command -v bash >/dev/null 2>&1; then
        words=$(timeout 2 bash -c "exec 3<>/dev/udp/$1/$2 && for n in 1 2 3; do echo >&3 || exit 1; sleep 0.4; done" 2>&1)
        said "$words" "udp:$1:$2"
    fi
}

echo k3arm-reach-1
for target in $targets; do
    place=${target#*:}
    case $target in
        tcp:*) tcp "${place%:*}" "${place#*:}" & ;;
        udp:*) udp "${place%:*}" "${place#*:}" & ;;
    esac
done
wait
echo end
