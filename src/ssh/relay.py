# Carries bytes between standard input and output and a socket (PATH) or a port (ADDRESS PORT), until both directions
# have ended or either side is gone. What one side says goes on before more of it is read.
import os, select, socket, stat, sys
to = sys.argv[1:]
if len(to) == 1:
    s = socket.socket(socket.AF_UNIX)
    s.connect(to[0])
else:
    s = socket.create_connection((to[0], int(to[1])))
far = s.fileno()
for fd in 0, 1, far:
    os.set_blocking(fd, False)
IN, OUT, GONE = select.POLLIN, select.POLLOUT, select.POLLHUP | select.POLLERR | select.POLLNVAL
up = down = b""
hears = back = takes = out = True
shut = said = False
def more(fd):
    try:
        got = os.read(fd, 65536)
        return got, bool(got)
    except BlockingIOError:
        return b"", True
    except OSError:
        return b"", False
def send_on(fd, data):
    try:
        return data[os.write(fd, data):], True
    except BlockingIOError:
        return data, True
    except OSError:
        return b"", False
while hears or back or up or down:
    hear = back and not down
    poll = select.poll()
    if hears and not up:
        poll.register(0, IN)
    if out:
        poll.register(1, OUT if down else 0)
    if takes or hear:
        poll.register(far, (IN if hear else 0) | (OUT if up else 0))
    ready = dict(poll.poll())
    if ready.get(1, 0) & GONE:
        sys.exit()
    if ready.get(far, 0) & GONE:
        up, hears, takes = b"", False, False
    if hear and ready.get(far, 0) & (IN | GONE):
        down, back = more(far)
    if hears and 0 in ready:
        up, hears = more(0)
    if up:
        up, hears_on = send_on(far, up)
        hears = hears and hears_on
    if down:
        down, listens = send_on(1, down)
        if not listens:
            sys.exit()
    if not hears and not up and not shut:
        shut = True
        try:
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
    if not back and not down and not said:
        said = True
        # sshd gives two pipes, or one socket for both directions: closing one descriptor of that would tell nobody.
        if stat.S_ISSOCK(os.fstat(1).st_mode):
            socket.socket(fileno=os.dup(1)).shutdown(socket.SHUT_WR)
        else:
            os.close(1)
            out = False
        # It passes on the end of standard output when that of standard error has come too.
        os.close(2)
