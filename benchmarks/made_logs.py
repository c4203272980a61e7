"""Logs for a machine that has none: five kinds of service, made from a seed. The same arguments give the same bytes everywhere.

They have what real logs have and packers live on: few templates, skewed choices, times that only grow, identifiers that come back
for the length of a session, and records of several lines. They are no proof for real logs; name real files for that.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

SEED = 20240501
START = datetime(2024, 5, 1, 6, 25, 1, tzinfo=timezone.utc)
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Service:
    """A clock that only goes forward, and choices in which a few are frequent."""

    def __init__(self, name: str) -> None:
        self.random = random.Random(f"{SEED} {name}")
        self.time = START

    def tick(self, mean_ms: float) -> datetime:
        self.time += timedelta(milliseconds=max(0.001, self.random.expovariate(1 / mean_ms)))
        return self.time

    def skewed(self, count: int) -> int:
        """0 to count - 1; small numbers are frequent, as in Zipf's law."""
        return min(int(count ** self.random.random()) - 1, count - 1)

    def address(self) -> str:
        hosts = random.Random(self.skewed(4000))  # an address is the same whenever its number comes back
        return ".".join(str(hosts.randrange(1, 255)) for _ in range(4))


def syslog() -> Iterator[str]:
    """OpenSSH, cron and the kernel through syslogd: no year, a host, program[pid]."""
    service = Service("syslog")
    users = ["root", "admin", "deploy", "oracle", "test", "git", "postgres", "ubuntu", "www", "backup"]
    pid = 1200
    while True:
        now = service.tick(900)
        head = f"{MONTHS[now.month - 1]} {now.day:2d} {now:%H:%M:%S} edge-{service.skewed(6)}"
        kind = service.random.random()
        pid += 1 + service.skewed(40)
        if kind < 0.72:
            address, port, user = service.address(), service.random.randrange(1024, 65536), users[service.skewed(len(users))]
            invalid = "invalid user " if user not in ("root", "git", "www", "backup") else ""
            if invalid:
                yield f"{head} sshd[{pid}]: Invalid user {user} from {address} port {port}"
                yield f"{head} sshd[{pid}]: pam_unix(sshd:auth): check pass; user unknown"
            yield (
                f"{head} sshd[{pid}]: pam_unix(sshd:auth): authentication failure; "
                f"logname= uid=0 euid=0 tty=ssh ruser= rhost={address}" + ("" if invalid else f"  user={user}")
            )
            for _ in range(1 + service.skewed(3)):
                yield f"{head} sshd[{pid}]: Failed password for {invalid}{user} from {address} port {port} ssh2"
            yield f"{head} sshd[{pid}]: Connection closed by authenticating user {user} {address} port {port} [preauth]"
        elif kind < 0.88:
            job = (
                "/usr/lib/sysstat/debian-sa1 1 1",
                "cd / && run-parts --report /etc/cron.hourly",
                "[ -x /usr/bin/certbot ] && certbot -q renew",
            )
            yield f"{head} CRON[{pid}]: (root) CMD ({job[service.skewed(len(job))]})"
        elif kind < 0.96:
            seconds = (now - START).total_seconds() + 8423
            yield (
                f"{head} kernel: [{seconds:12.6f}] [UFW BLOCK] IN=eth0 OUT= MAC=52:54:00:12:34:56 SRC={service.address()} DST=10.0.0.{service.skewed(250) + 1} "
                f"LEN={40 + 4 * service.skewed(8)} TOS=0x00 TTL={service.random.choice((51, 112, 240))} ID={service.random.randrange(65536)} "
                f"PROTO=TCP SPT={service.random.randrange(1024, 65536)} DPT={(22, 23, 80, 443, 445, 3389, 5900)[service.skewed(7)]}"
            )
        else:
            yield f"{head} systemd[1]: Started Session {pid % 9000} of user {users[service.skewed(len(users))]}."


def json_lines() -> Iterator[str]:
    """A service in containers: one object a line, a trace identifier for each request."""
    service = Service("json")
    routes = ["/v1/items", "/v1/items/{id}", "/v1/cart", "/v1/checkout", "/v1/search", "/healthz", "/v1/users/{id}/orders"]
    pods = [f"shop-{service.random.getrandbits(40):010x}-{suffix}" for suffix in ("x7k2p", "m94dz", "q8fwl")]
    while True:
        trace = f"{service.random.getrandbits(128):032x}"
        route = routes[service.skewed(len(routes))]
        common = {"service": "shop", "pod": pods[service.random.randrange(3)], "trace_id": trace}
        for step in ("request received", "cache lookup", "request done"):
            entry: dict[str, object] = {"ts": f"{service.tick(35):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z", "level": "info", **common, "msg": step}
            if step == "request received":
                entry |= {"method": "POST" if "c" in route[4:6] else "GET", "route": route, "user_id": 10000 + service.skewed(50000)}
            elif step == "cache lookup":
                entry |= {"hit": service.random.random() < 0.8, "key": f"{route.split('/')[-1]}:{service.skewed(3000)}"}
            else:
                status = (200, 200, 200, 304, 404, 500)[service.skewed(6)]
                entry |= {
                    "status": status,
                    "bytes": service.skewed(40000),
                    "duration_ms": round(service.random.lognormvariate(2.5, 0.9), 3),
                }
                entry["level"] = "error" if status == 500 else "info"
            yield json.dumps(entry, separators=(",", ":"))


def access_log() -> Iterator[str]:
    """nginx in its combined format."""
    service = Service("access")
    agents = [
        f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36"
        for version in range(118, 125)
        for system in ("Windows NT 10.0; Win64; x64", "X11; Linux x86_64", "Macintosh; Intel Mac OS X 10_15_7")
    ] + ["curl/8.5.0", "Googlebot/2.1 (+http://www.google.com/bot.html)", "python-requests/2.31.0"]
    assets = ["app.css", "app.js", "logo.svg", "fonts/inter.woff2", "vendor.js", "favicon.ico"]
    while True:
        address, agent = service.address(), agents[service.skewed(len(agents))]
        page = (
            f"/products/{service.skewed(2000)}"
            if service.random.random() < 0.7
            else f"/search?q=item+{service.skewed(500)}&page={1 + service.skewed(9)}"
        )
        for path in [page, *(f"/static/{asset}" for asset in assets[: service.skewed(7)])]:
            status = (200, 200, 304, 301, 404, 502)[service.skewed(6)]
            size = 0 if status == 304 else 178 + (hash_of(path) if path != page else service.skewed(60000))
            referrer = "-" if path == page else f"https://shop.example.com{page}"
            yield f'{address} - - [{service.tick(60):%d/%b/%Y:%H:%M:%S} +0000] "GET {path} HTTP/1.1" {status} {size} "{referrer}" "{agent}"'


def hash_of(text: str) -> int:
    """A size that a file always has; Python's own hash changes from run to run."""
    return sum(i * byte for i, byte in enumerate(text.encode(), 7)) % 50021


def java_service() -> Iterator[str]:
    """A Java service at DEBUG: threads, loggers, and exceptions with their stack traces."""
    service = Service("java")
    loggers = [
        "o.h.SQL",
        "c.e.orders.OrderService",
        "c.e.orders.PaymentClient",
        "o.s.w.s.DispatcherServlet",
        "c.z.h.pool.HikariPool",
        "c.e.stock.StockCache",
    ]
    frames = [
        f"com.example.{package}.{name}.{method}({name}.java:{service.random.randrange(20, 400)})"
        for package, name in (("orders", "OrderService"), ("orders", "PaymentClient"), ("stock", "StockCache"), ("web", "OrderController"))
        for method in ("handle", "submit", "lambda$retry$0", "invoke", "call")
    ] + ["java.base/java.lang.Thread.run(Thread.java:840)", "java.base/java.util.concurrent.FutureTask.run(FutureTask.java:317)"]
    while True:
        head = f"{service.tick(18):%Y-%m-%d %H:%M:%S.%f}"[:-3]
        thread, order = f"http-nio-8080-exec-{1 + service.skewed(20)}", 700000 + service.skewed(90000)
        kind = service.random.random()
        if kind < 0.3:
            yield f"{head} DEBUG [{thread}] {loggers[0]} - select o.id, o.customer_id, o.total from orders o where o.id={order}"
        elif kind < 0.6:
            yield f"{head}  INFO [{thread}] {loggers[1]} - Order {order} moved from NEW to PAID in {service.skewed(900)} ms"
        elif kind < 0.8:
            yield f"{head} DEBUG [{thread}] {loggers[3]} - Completed {(200, 201, 404)[service.skewed(3)]} OK"
        elif kind < 0.9:
            yield (
                f"{head} DEBUG [HikariPool-1 housekeeper] {loggers[4]} - HikariPool-1 - "
                f"Pool stats (total=10, active={service.skewed(10)}, idle={service.skewed(10)}, waiting=0)"
            )
        elif kind < 0.97:
            yield f"{head} DEBUG [{thread}] {loggers[5]} - evicted sku-{service.random.getrandbits(32):08x} after {service.skewed(100000)} hits"
        else:
            yield f"{head} ERROR [{thread}] {loggers[2]} - Payment of order {order} failed"
            yield f"java.net.SocketTimeoutException: Read timed out after {(1000, 3000, 5000)[service.skewed(3)]} ms"
            first = service.skewed(len(frames) - 6)
            for frame in [*frames[first : first + 4 + service.skewed(3)], *frames[-2:]]:
                yield f"\tat {frame}"
            yield f"\t... {20 + service.skewed(20)} common frames omitted"


def postgres() -> Iterator[str]:
    """PostgreSQL with log_min_duration_statement: statements over several lines, and their parameters."""
    service = Service("postgres")
    statements = [
        "SELECT u.id, u.email, u.created_at FROM users u WHERE u.id = $1",
        "UPDATE carts SET updated_at = now(), total = $2 WHERE id = $1",
        "SELECT p.id, p.name, p.price\n\tFROM products p\n\tJOIN product_tags t ON t.product_id = p.id\n\tWHERE t.tag = $1\n\tORDER BY p.rank DESC LIMIT 20",
        "INSERT INTO events (id, kind, payload) VALUES ($1, $2, $3)",
        "DELETE FROM sessions WHERE expires_at < $1",
    ]
    tags = ["new", "sale", "garden", "kitchen", "books", "toys"]
    transaction = 81_234_000
    while True:
        now = service.tick(22)
        backend = 4000 + service.skewed(60)
        head = f"{now:%Y-%m-%d %H:%M:%S}.{now.microsecond // 1000:03d} UTC [{backend}] app@shop"
        which = service.skewed(len(statements))
        duration = service.random.lognormvariate(0.4, 1.1)
        yield from f"{head} LOG:  duration: {duration:.3f} ms  execute S_{which + 1}: {statements[which]}".split("\n")
        identifier = service.skewed(80000)
        parameters = [
            f"$1 = '{identifier}'",
            f"$1 = '{identifier}', $2 = '{service.skewed(50000) / 100:.2f}'",
            f"$1 = '{tags[service.skewed(6)]}'",
            f"$1 = '{service.random.getrandbits(128):032x}', $2 = 'view', $3 = '{{\"item\": {identifier}}}'",
            f"$1 = '{now:%Y-%m-%d %H:%M:%S}+00'",
        ][which]
        yield f"{head} DETAIL:  parameters: {parameters}"
        transaction += 1
        if service.random.random() < 0.004:
            yield f'{head} ERROR:  duplicate key value violates unique constraint "events_pkey"'
            yield f"{head} LOG:  transaction {transaction} was rolled back"


KINDS: dict[str, Callable[[], Iterator[str]]] = {
    "made_syslog": syslog,
    "made_json_lines": json_lines,
    "made_access_log": access_log,
    "made_java_service": java_service,
    "made_postgres": postgres,
}


def make(kind: str, size: int) -> bytes:
    """Lines of a kind, ended when they are `size` bytes or more."""
    parts: list[bytes] = []
    total = 0
    for line in KINDS[kind]():
        if total >= size:
            break
        parts.append(line.encode() + b"\n")
        total += len(parts[-1])
    return b"".join(parts)
