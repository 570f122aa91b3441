// Calls gitbeaker as the lines of standard input say, and answers each with one line.
// Arguments: the directory that it is installed in, GitLab's URL, a token.
// A line in: [METHOD, ARGUMENT...] of JobArtifacts. Out: {"base64"} of a file, {"json"} of JSON, {"status"} of an error.

import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const [installed, host, token] = process.argv.slice(2);
const { JobArtifacts } = createRequire(join(installed, "package.json"))("@gitbeaker/rest");
const artifacts = new JobArtifacts({ host, token });

async function call([method, ...args]) {
  try {
    const got = await artifacts[method](...args);
    if (got instanceof Blob) {
      return { base64: Buffer.from(await got.arrayBuffer()).toString("base64") };
    }
    if (typeof got === "string") {
      return { base64: Buffer.from(got).toString("base64") };
    }
    return { json: got ?? null };
  } catch (error) {
    const status = error.cause?.response?.status;
    return status === undefined ? { failed: String(error.stack) } : { status };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await call(JSON.parse(line))));
}
