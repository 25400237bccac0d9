# Carries many connections to sockets and ports of this host over standard input and output, until that ends. Frames both
# ways: a letter, the connection's number, a length (32 bits each, big endian), and for o and d so many bytes.
#   o open: a path, or "address port"   d data   e the end of this direction   c gone   w so many bytes more may be sent
import os, select, socket, struct, sys
WINDOW, HEAD = 524288, struct.Struct(">cII")
IN, OUT, GONE = select.POLLIN, select.POLLOUT, select.POLLHUP | select.POLLERR | select.POLLNVAL
came, out, every = bytearray(), bytearray(), {}
class Connection:
    def __init__(self, to):
        self.up, self.credit = bytearray(), WINDOW
        self.ended = self.said = self.shut = self.deaf = False
        if to[:1] == b"/":
            self.s = socket.socket(socket.AF_UNIX)
            self.s.connect(to)
            self.s.setblocking(False)
        else:
            host, port = to.decode().split(" ")
            self.s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # It may take long to answer, and the others must not wait.
            self.s.setblocking(False)
            self.s.connect_ex((host, int(port)))
def send(kind, number, data=b"", length=None):
    out.extend(HEAD.pack(kind, number, len(data) if length is None else length) + data)
def forget(number, tell=False):
    every.pop(number).s.close()
    if tell:
        send(b"c", number)
def take(kind, number, length, data):
    if kind == b"o":
        try:
            every[number] = Connection(data)
        except (OSError, ValueError):
            send(b"c", number)
    c = every.get(number)
    if not c:
        return
    if kind == b"d" and not c.deaf:
        c.up += data
    elif kind == b"e":
        c.ended = True
    elif kind == b"w":
        c.credit += length
    elif kind == b"c":
        forget(number)
def serve(number, c, ready):
    if ready & (IN | GONE) and not c.said and c.credit > 0:
        try:
            data = c.s.recv(min(65536, c.credit))
            if data:
                c.credit -= len(data)
                send(b"d", number, data)
            else:
                c.said = True
                send(b"e", number)
        except BlockingIOError:
            pass
        except OSError:
            return forget(number, True)
    if ready & GONE and c.said:
        return forget(number, True)
    if c.up and ready & OUT:
        try:
            sent = c.s.send(c.up)
            del c.up[:sent]
            send(b"w", number, length=sent)
        except BlockingIOError:
            pass
        except OSError:
            c.deaf = True
    if ready & GONE or c.deaf:
        c.deaf = True
        del c.up[:]
    if c.ended and not c.up and not c.shut:
        c.shut = True
        try:
            c.s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
    if c.said and c.shut:
        forget(number)
os.set_blocking(0, False)
os.set_blocking(1, False)
while True:
    poll, numbers = select.poll(), {}
    poll.register(0, IN)
    poll.register(1, OUT if out else 0)
    for number, c in every.items():
        wants = OUT if c.up else 0
        if not c.said and c.credit > 0 and len(out) < 262144:
            wants |= IN
        if wants or c.said:
            poll.register(c.s.fileno(), wants)
            numbers[c.s.fileno()] = number
    ready = dict(poll.poll())
    if ready.pop(1, 0) & GONE:
        sys.exit()
    try:
        if ready.pop(0, 0):
            data = os.read(0, 65536)
            if not data:
                sys.exit()
            came += data
            while len(came) >= HEAD.size:
                kind, number, length = HEAD.unpack_from(came)
                size = HEAD.size + (length if kind in b"od" else 0)
                if len(came) < size:
                    break
                data = bytes(came[HEAD.size:size])
                del came[:size]
                take(kind, number, length, data)
    except BlockingIOError:
        pass
    for fd, number in numbers.items():
        if number in every:
            serve(number, every[number], ready.get(fd, 0))
    if out:
        try:
            del out[:os.write(1, out)]
        except BlockingIOError:
            pass
        except OSError:
            sys.exit()
