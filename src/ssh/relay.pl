# Carries bytes between standard input and output and a socket (PATH) or a port (ADDRESS PORT), until both directions
# have ended or either side is gone. What one side says goes on before more of it is read.
use strict; use Socket; use IO ();
$SIG{PIPE} = "IGNORE";
my ($host, $port) = @ARGV;
my ($family, $address) = !defined $port ? (AF_UNIX, pack_sockaddr_un($host))
    : $host =~ /:/ ? (AF_INET6, pack_sockaddr_in6($port, Socket::inet_pton(AF_INET6, $host)))
    : (AF_INET, pack_sockaddr_in($port, inet_aton($host)));
my $s;
socket($s, $family, SOCK_STREAM, 0) && connect($s, $address) or die "$host: $!\n";
IO::Handle::blocking($_, 0) for \*STDIN, \*STDOUT, $s;
my ($up, $down, $read, $write, $gone) = ("", "", 1, 4, 8 | 16);
my ($in, $back, $takes, $shut, $out, $said) = (1, 1, 1, 0, 1, 0);
sub more { my $n = sysread $_[0], $_[1], 65536; $n || !defined $n && $!{EAGAIN} }
sub send_on {
    my $n = syswrite $_[0], $_[1];
    substr $_[1], 0, $n, "" if $n;
    defined $n || $!{EAGAIN};
}
while ($in || $back || $up ne "" || $down ne "") {
    my $hear = $back && $down eq "";
    my @p = ($in && $up eq "" ? 0 : -1, $read, $out ? 1 : -1, $down eq "" ? 0 : $write,
        $takes || $hear ? fileno $s : -1, ($hear ? $read : 0) | ($up eq "" ? 0 : $write));
    next if IO::Poll::_poll(-1, @p) < 0;
    exit if $p[3] & $gone;
    $up = "", $in = $takes = 0 if $p[5] & $gone;
    if ($hear && $p[5]) { $back = more($s, $down) if $p[5] & ($read | $gone) }
    if ($p[1]) { $in = more(\*STDIN, $up) }
    if ($up ne "" && !send_on($s, $up)) { $up = ""; $in = 0 }
    if ($down ne "" && !send_on(\*STDOUT, $down)) { exit }
    if (!$in && $up eq "" && !$shut++) { shutdown $s, 1 }
    next if $back || $down ne "" || $said++;
    # sshd gives two pipes, or one socket for both directions: closing one descriptor of that would tell nobody.
    shutdown STDOUT, 1 or $out = 0, close STDOUT;
    # It passes on the end of standard output when that of standard error has come too.
    close STDERR;
}
