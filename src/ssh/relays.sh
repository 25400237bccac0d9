# Prints the programs of this host that can carry connections, one a line, the one to take first; none after one that can
# do everything. An interpreter for our own few lines comes first: one process carries all connections, and passes on each
# end of each.
exec </dev/null 2>/dev/null
perl -e 'use Socket; use IO (); exit !defined &IO::Poll::_poll' && echo perl && exit
python3 -I -S -c 'import os, select, socket; os.set_blocking' && echo python3 && exit
case $(docker --version) in
    "Docker version"*) case $(docker system dial-stdio --help) in *dial-stdio*) echo docker ;; esac ;;
esac
socat -V >&2 && echo socat
# One name, many programs: -U is a unix socket, and without -N one of them does not pass on the end of its input.
case $(nc -h 2>&1) in
    *Ncat*) echo ncat ;;
    *BusyBox*) echo busybox-nc ;;
    *-N*hutdown*-U*) echo nc ;;
esac
:
