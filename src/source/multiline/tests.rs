//! Ready patterns on traces as they are written, and patterns of one's own.

use super::*;

/// The events that these lines make.
fn joined(lines: &Lines, text: &str) -> Vec<String> {
    let mut events: Vec<String> = Vec::new();
    let mut state = State::DONE;
    for line in text.lines() {
        if let Some(next) = lines.join(state, line.as_bytes()).filter(|_| !events.is_empty()) {
            let event = events.last_mut().unwrap();
            event.push('\n');
            event.push_str(line);
            state = next;
        } else {
            events.push(line.to_owned());
            state = lines.begin(line.as_bytes());
        }
    }
    events
}

/// These events, written one after the other, twice, come out as they are.
#[track_caller]
fn assert_joined(name: &str, events: &[&str]) {
    let lines = Lines::Ready(ready::ready(name).unwrap());
    let twice: Vec<&str> = events.iter().chain(events).copied().collect();
    assert_eq!(joined(&lines, &twice.join("\n")), twice);
}

fn own(start: &str, next: &str, end: &str) -> Lines {
    let regex = |text: &str| (!text.is_empty()).then(|| Regex::new(text).unwrap());
    Lines::Own(Own { start: regex(start), next: regex(next), end: regex(end) })
}

#[test]
fn every_ready_pattern_is_a_regex() {
    for name in ready::NAMES {
        ready::ready(name).unwrap().check();
    }
    assert!(ready::ready("cobol").is_none());
}

#[test]
fn java_traces_belong_to_the_line_before_them() {
    assert_joined(
        "java",
        &[
            "2026-11-24 10:00:00,123 INFO  [main] c.e.App - started",
            "2026-11-24 10:00:01,456 ERROR [http-8080-1] c.e.shop.OrderController - order 17 failed
org.springframework.dao.DataIntegrityViolationException: could not execute statement
  Detail: Key (id)=(17) already exists.
	at com.example.shop.OrderRepository.save(OrderRepository.java:87) ~[app.jar:1.0]
	at java.base/java.lang.Thread.run(Thread.java:833)
	Suppressed: java.io.IOException: close failed
		at com.example.shop.Pool.close(Pool.java:12)
		... 3 more
Caused by: org.postgresql.util.PSQLException: ERROR: duplicate key value violates unique constraint \"orders_pkey\"
	at org.postgresql.core.v3.QueryExecutorImpl.receiveErrorResponse(QueryExecutorImpl.java:2553)
	... 52 common frames omitted",
            "2026-11-24 10:00:02,000 WARN  [main] c.e.App - java.lang.IllegalStateException: in one line",
            "Exception in thread \"main\" java.lang.NullPointerException: Cannot invoke \"String.length()\" because \"<local1>\" is null
	at com.example.Main.main(Main.java:5)",
            "java.lang.OutOfMemoryError: Java heap space
	at java.base/java.util.Arrays.copyOf(Arrays.java:3537)",
            "2026-11-24 10:00:03,000 INFO  [main] c.e.App - stopped",
        ],
    );
}

#[test]
fn python_tracebacks_end_with_the_exception_and_go_on_in_chains() {
    assert_joined(
        "python",
        &[
            "INFO:root:started",
            "ERROR:app.worker:job 7 failed
Traceback (most recent call last):
  File \"/srv/app/worker.py\", line 31, in run
    self.step(job)
    ~~~~~~~~~^^^^^
  File \"/srv/app/worker.py\", line 40, in step
    return job[\"name\"]
KeyError: 'name'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File \"/srv/app/main.py\", line 9, in <module>
    main()
requests.exceptions.ConnectionError: HTTPSConnectionPool(host='api', port=443): Max retries exceeded",
            "INFO:root: indented text is no traceback",
            "2026-11-24 10:00:00,000 WARNING not a traceback either: KeyError: 'x'",
            "Exception in thread Thread-1 (work):
Traceback (most recent call last):
  File \"/srv/app/main.py\", line 3, in <module>
    time.sleep(60)
KeyboardInterrupt",
            "Traceback (most recent call last):
  File \"/srv/app/x.py\", line 1
    print(\"a\"
         ^
SyntaxError: '(' was never closed",
            "  + Exception Group Traceback (most recent call last):
  |   File \"/srv/app/g.py\", line 2, in <module>
  | ExceptionGroup: two of them (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | ValueError: 1
    +------------------------------------",
            "INFO:root:stopped",
        ],
    );
}

#[test]
fn go_panics_have_all_their_goroutines() {
    assert_joined(
        "go",
        &[
            "2026/11/24 10:00:00 listening on :8080",
            "panic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x4a2f11]

goroutine 1 [running]:
main.(*Server).handle(0xc0000b6000, {0xc00001c0f0, 0x7})
	/srv/app/server.go:42 +0x1d
main.main()
	/srv/app/main.go:12 +0x85

goroutine 18 [chan receive, 3 minutes]:
main.worker(...)
	/srv/app/worker.go:8
created by main.main in goroutine 1
	/srv/app/main.go:10 +0x4f",
            "2026/11/24 10:00:01 http: panic serving 10.0.0.7:51324: boom
goroutine 34 [running]:
net/http.(*conn).serve.func1()
	/usr/local/go/src/net/http/server.go:1868 +0xb9
panic({0x6a1b60?, 0x7a9d30?})
	/usr/local/go/src/runtime/panic.go:920 +0x270",
            "2026/11/24 10:00:02 stopped (by a signal)",
            "fatal error: all goroutines are asleep - deadlock!

goroutine 1 [select (no cases)]:
main.main()
	/srv/app/main.go:5 +0xf",
        ],
    );
}

#[test]
fn ruby_backtraces_belong_to_the_line_before_them() {
    assert_joined(
        "ruby",
        &[
            "I, [2026-11-24T10:00:00.000000 #1]  INFO -- : started",
            "app.rb:3:in `divide': divided by 0 (ZeroDivisionError)
	from app.rb:3:in `/'
	from app.rb:7:in `<main>'",
            "E, [2026-11-24T10:00:01.000000 #1] ERROR -- : undefined method `name' for nil (NoMethodError)
app/controllers/orders_controller.rb:12:in `show'
/usr/lib/ruby/gems/3.3.0/gems/actionpack-7.1.2/lib/action_controller/metal/basic_implicit_render.rb:6:in 'ActionController::BasicImplicitRender#send_action'",
            "worker.rb:9:in 'Integer#/': divided by 0 (ZeroDivisionError)
	from worker.rb:9:in 'Worker#run'",
            "I, [2026-11-24T10:00:02.000000 #1]  INFO -- : stopped",
        ],
    );
}

#[test]
fn node_stacks_have_the_place_before_and_what_is_inside_the_error() {
    assert_joined(
        "node",
        &[
            "server listening on 8080",
            "order 17 failed Error: connect ECONNREFUSED 127.0.0.1:5432
    at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1555:16) {
  errno: -111,
  code: 'ECONNREFUSED',
  [cause]: Error: inner
      at inner (/srv/app/db.js:3:9)
}",
            "TypeError: Cannot read properties of undefined (reading 'name')
    at Object.<anonymous> (/srv/app/index.js:10:11)
    at async Promise.all (index 0)",
            "GET /orders 200",
            "/srv/app/index.js:10
    throw new RangeError('boom');
    ^

RangeError: boom
    at Object.<anonymous> (/srv/app/index.js:10:11)
    at node:internal/main/run_main_module:28:49

Node.js v20.11.0",
            "server listening on 8080",
        ],
    );
}

#[test]
fn dotnet_exceptions_have_their_inner_ones() {
    assert_joined(
        "dotnet",
        &[
            "2026-11-24 10:00:00.000 [INF] started",
            "2026-11-24 10:00:01.000 [ERR] order 17 failed
System.InvalidOperationException: Sequence contains no elements
 ---> System.Data.SqlClient.SqlException (0x80131904): Timeout expired
   at System.Data.SqlClient.SqlConnection.OnError(SqlException exception)
   --- End of inner exception stack trace ---
   at Shop.Orders.Load(Int32 id) in /src/Orders.cs:line 42
--- End of stack trace from previous location ---
   at Shop.Program.Main(String[] args)",
            "Unhandled exception. System.NullReferenceException: Object reference not set to an instance of an object.
   at Shop.Program.Main(String[] args) in /src/Program.cs:line 10",
            "fail: Microsoft.AspNetCore.Server.Kestrel[13]
      Connection id \"0HM\" threw
      System.Exception: boom
         at Shop.Startup.Run()",
            "info: Microsoft.Hosting.Lifetime[0]
      Application started.",
            "2026-11-24 10:00:02.000 [INF] stopped",
        ],
    );
}

#[test]
fn postgres_tells_more_in_lines_of_their_own() {
    assert_joined(
        "postgres",
        &[
            "2026-11-24 10:00:00.000 UTC [71] LOG:  database system is ready to accept connections",
            "2026-11-24 10:00:01.000 UTC [88] app@shop ERROR:  duplicate key value violates unique constraint \"orders_pkey\"
2026-11-24 10:00:01.000 UTC [88] app@shop DETAIL:  Key (id)=(17) already exists.
2026-11-24 10:00:01.000 UTC [88] app@shop STATEMENT:  insert into orders
	  (id, name)
	values (17, 'x')",
            "2026-11-24 10:00:02 UTC [88]: [3-1] user=app,db=shop LOG:  duration: 1200.5 ms  statement: select 1
	where 'HINT:  none' = $1",
            "2026-11-24 10:00:03 UTC [88]: [4-1] user=app,db=shop ERROR:  a text with CONTEXT:  in it
2026-11-24 10:00:03 UTC [88]: [5-1] user=app,db=shop HINT:  try again",
            "2026-11-24 10:00:04.000 UTC [71] LOG:  shutting down",
        ],
    );
}

#[test]
fn own_patterns_mean_what_the_documentation_says() {
    let events = |lines: &Lines, text: &str| {
        joined(lines, &text.replace(' ', "\n")).iter().map(|event| event.replace('\n', "+")).collect::<Vec<_>>().join(" ")
    };
    // A start alone: all that begins nothing is joined.
    assert_eq!(events(&own("^S", "", ""), "a b S1 c d S2 S3 e"), "a+b S1+c+d S2 S3+e");
    // A continuation alone: all else begins an event.
    assert_eq!(events(&own("", "^-", ""), "-a -b c -d e f -g"), "-a+-b c+-d e f+-g");
    // An end alone: all up to it.
    assert_eq!(events(&own("", "", ";$"), "a b; c; d e;"), "a+b; c; d+e;");
    // With a start and a continuation other lines stand alone.
    assert_eq!(events(&own("^S", "^-", ""), "x y S1 -a -b z -c -d S2 S3"), "x y S1+-a+-b z -c+-d S2 S3");
    // With a start and an end what is outside stands alone, and a start without its end ends at the next one.
    assert_eq!(events(&own("^S", "", "^E"), "x y S1 a E z S2 b S3 E E w"), "x y S1+a+E z S2+b S3+E E w");
    // A continuation and an end: the end belongs to it, and nothing follows it.
    assert_eq!(events(&own("", "^-", "^E"), "a -b E -c -d e E f"), "a+-b+E -c+-d e+E f");
    // A start that is an end as well is a whole event.
    assert_eq!(events(&own("^S", "", "^S!"), "S! a S b S! c"), "S! a S+b S! c");
    // Escape sequences, empty lines and bytes that are no text are lines like others.
    assert_eq!(own("", r"^\s", "").join(State::FIRST, b""), None);
    assert_eq!(own("", r"^$", "").join(State::FIRST, b""), Some(State::FIRST));
    assert_eq!(own("", r"^\s", "").join(State::FIRST, b"\t\xff\xfe"), Some(State::FIRST));
}
