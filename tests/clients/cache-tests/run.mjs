// Runs the tests of cache-tests.fyi against a cache in front of their own server.
// Argument: the directory that they are installed in. First line out: the server's URL. Line in: the cache's URL.
// Second line out: what came of each test, {"group", "id", "kind", "name", "failed"}; `kind` as the suite has it:
// "required" where it isn't said.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [installed] = process.argv.slice(2);
const fetch = createRequire(join(installed, "package.json"))("node-fetch");
const suite = (path) => import(pathToFileURL(join(installed, "node_modules/http-cache-tests", path)));
const { default: groups } = await suite("tests/index.mjs");
const { default: surrogate } = await suite("tests/surrogate-control.mjs");
const { runTests, getResults } = await suite("client/runner.mjs");

const handlers = {};
for (const name of ["config", "test", "state"]) {
  ({ default: handlers[name] } = await suite(`server/handle-${name}.mjs`));
}
// It warns on standard output, which is ours.
console.log = console.error;

const server = createServer((request, response) => {
  const [, name, ...rest] = new URL(request.url, "http://localhost").pathname.split("/");
  handlers[name](rest, request, response);
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
process.stdout.write(`http://127.0.0.1:${server.address().port}\n`);

for await (const url of createInterface({ input: process.stdin })) {
  const all = [...groups, surrogate];
  await runTests(all, fetch, false, url, 1000);
  const results = getResults();
  const told = all.flatMap(({ id: group, tests }) =>
    tests
      .filter(({ id }) => id in results)
      .map(({ id, kind = "required", name }) => ({ group, id, kind, name, failed: results[id] === true ? null : results[id] })),
  );
  process.stdout.write(`${JSON.stringify(told)}\n`, () => process.exit(0));
  break;
}
