// Timers and an HTTP server. Every step is told on standard output
// (step.Step); what is not as it should be is written as "error: ...".
// GET /add?n=5 adds to a sum, GET /sum tells it, GET /kept the bytes kept.
'use strict';
const http = require('http');
const fs = require('fs');
const crypto = require('crypto');
const { spawn } = require('child_process');

function fail(why) {
  fs.writeSync(1, `error: ${why}\n`);
  process.exit(70);
}
process.on('uncaughtException', (e) => fail(String(e.stack).replace(/\n/g, ' | ')));
process.on('unhandledRejection', (e) => fail(String(e)));

let sum = 0;
const counts = {};
function told(who, count = 0, ids = '') {
  const n = counts[who] = (counts[who] || 0) + 1;
  fs.writeSync(1, JSON.stringify({
    who, n, mono: Number(process.hrtime.bigint()), real: Date.now() * 1e6,
    ids: `pid ${process.pid} ppid ${process.ppid} ${ids}`, count,
  }) + '\n');
}

// An interval, which must not run ahead or stand still.
setInterval(() => told('interval', sum), 50);

// A chain of timeouts, each set by the last.
(function next() { setTimeout(() => { told('timeout'); next(); }, 40); })();

// Microtasks, the thread pool (the digest must be the same for ever) and files.
let first;
(function pool() {
  crypto.pbkdf2('password', 'salt', 2000, 32, 'sha256', (err, key) => {
    if (err) fail(err);
    first = first || key.toString('hex');
    if (key.toString('hex') !== first) fail('pbkdf2 gave another key');
    fs.readFile(process.argv[3], 'utf8', (err, text) => {
      if (err) fail(err);
      if (text.length !== 10000) fail(`file has ${text.length} characters`);
      told('pool');
      setTimeout(pool, 50);
    });
  });
})();

// A child that answers over pipes.
const child = spawn('/bin/cat');
let asked = 0;
let got = '';
child.on('exit', (c, s) => fail(`cat exited: ${c} ${s}`));
child.stdout.on('data', (d) => {
  got += d;
  if (!got.endsWith('\n')) return;
  if (got !== `${asked}\n`) fail(`cat said ${got} instead of ${asked}`);
  got = '';
  told('child', 0, `child ${child.pid}`);
  setTimeout(ask, 50);
});
function ask() { child.stdin.write(`${++asked}\n`); }
ask();

// Garbage for the collector, and something it must keep.
const kept = new Map();
for (let i = 0; i < 20000; i++) kept.set(`key${i}`, { i, text: `value ${i}` });
let round = 0;
setInterval(() => {
  const garbage = [];
  for (let i = 0; i < 20000; i++) garbage.push({ i, s: 'x'.repeat(i % 50) });
  const i = (round++ * 7919) % kept.size;
  const v = kept.get(`key${i}`);
  if (!v || v.i !== i || v.text !== `value ${i}`) fail(`heap: key${i} is ${JSON.stringify(v)}`);
  told('heap');
}, 50);

http.createServer((req, res) => {
  const url = new URL(req.url, 'http://localhost');
  if (url.pathname === '/add') sum += Number(url.searchParams.get('n'));
  res.setHeader('Connection', 'close');
  res.end(JSON.stringify({ sum, pid: process.pid, kept: kept.size }));
}).listen(Number(process.argv[2]), '127.0.0.1');
