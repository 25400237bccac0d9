# Carries many connections to sockets and ports of this host over standard input and output, until that ends. Frames both
# ways: a letter, the connection's number, a length (32 bits each, big endian), and for o and d so many bytes.
#   o open: a path, or "address port"   d data   e the end of this direction   c gone   w so many bytes more may be sent
use strict; use Socket; use IO ();
$SIG{PIPE} = "IGNORE";
my ($window, $read, $write, $gone) = (524288, 1, 4, 8 | 16);
my ($in, $out, %all) = ("", "");
IO::Handle::blocking($_, 0) for \*STDIN, \*STDOUT;
sub send_frame { my ($type, $id, $data, $length) = @_; $out .= pack("aNN", $type, $id, $length // length $data) . $data }
sub forget { my ($id, $tell) = @_; close $all{$id}{s}; delete $all{$id}; send_frame("c", $id, "") if $tell }
sub again { $!{EAGAIN} || $!{EINTR} }
sub start {
    my ($host, $port) = $_[0] =~ m{^/} ? $_[0] : split / /, $_[0];
    my ($family, $address) = !defined $port ? (AF_UNIX, pack_sockaddr_un($host))
        : $host =~ /:/ ? (AF_INET6, pack_sockaddr_in6($port, Socket::inet_pton(AF_INET6, $host)))
        : (AF_INET, pack_sockaddr_in($port, inet_aton($host)));
    socket my $s, $family, SOCK_STREAM, 0 or return;
    # A port may take long to answer, and the others must not wait.
    IO::Handle::blocking($s, 0) if $port;
    setsockopt $s, Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1 if $port;
    connect $s, $address or $port && $!{EINPROGRESS} or return;
    IO::Handle::blocking($s, 0);
    return { s => $s, up => "", credit => $window };
}
sub take {
    my ($type, $id, $n, $data) = @_;
    if ($type eq "o") { my $new = start($data); $new ? $all{$id} = $new : send_frame("c", $id, "") }
    my $c = $all{$id} or return;
    if ($type eq "d") { $c->{up} .= $data unless $c->{deaf} }
    elsif ($type eq "e") { $c->{ended} = 1 }
    elsif ($type eq "w") { $c->{credit} += $n }
    elsif ($type eq "c") { forget($id) }
}
sub serve {
    my ($id, $c, $ready) = @_;
    if ($ready & ($read | $gone) && !$c->{said} && $c->{credit} > 0) {
        my $n = sysread $c->{s}, my $data, $c->{credit} < 65536 ? $c->{credit} : 65536;
        if ($n) { $c->{credit} -= $n; send_frame("d", $id, $data) }
        elsif (defined $n) { $c->{said} = 1; send_frame("e", $id, "") }
        elsif (!again()) { return forget($id, 1) }
    }
    return forget($id, 1) if $ready & $gone && $c->{said};
    if ($c->{up} ne "" && $ready & $write) {
        my $n = syswrite $c->{s}, $c->{up};
        if ($n) { substr $c->{up}, 0, $n, ""; send_frame("w", $id, "", $n) }
        elsif (!again()) { $c->{deaf} = 1 }
    }
    if ($ready & $gone || $c->{deaf}) { $c->{deaf} = 1; $c->{up} = "" }
    shutdown $c->{s}, 1 if $c->{ended} && $c->{up} eq "" && !$c->{shut}++;
    forget($id) if $c->{said} && $c->{shut};
}
while (1) {
    my @ids = keys %all;
    my @p = (0, $read, 1, $out eq "" ? 0 : $write);
    for my $c (@all{@ids}) {
        my $wants = $c->{up} eq "" ? 0 : $write;
        $wants |= $read if !$c->{said} && $c->{credit} > 0 && length $out < 262144;
        push @p, $wants || $c->{said} ? fileno $c->{s} : -1, $wants;
    }
    next if IO::Poll::_poll(-1, @p) < 0;
    exit if $p[3] & $gone;
    if ($p[1]) {
        my $n = sysread STDIN, $in, 65536, length $in;
        exit unless $n || !defined $n && again();
        while (length $in >= 9) {
            my ($type, $id, $n) = unpack "aNN", $in;
            my $size = $type eq "o" || $type eq "d" ? $n : 0;
            last if length $in < 9 + $size;
            my $data = substr $in, 9, $size;
            substr $in, 0, 9 + $size, "";
            take($type, $id, $n, $data);
        }
    }
    for (0 .. $#ids) { my $c = $all{$ids[$_]}; serve($ids[$_], $c, $p[5 + 2 * $_]) if $c }
    if ($out ne "") {
        my $n = syswrite STDOUT, $out;
        if ($n) { substr $out, 0, $n, "" } elsif (!again()) { exit }
    }
}
