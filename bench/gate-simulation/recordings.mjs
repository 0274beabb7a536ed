/**
 * Recorded noise: pairs of identical engines, measured side by side (bench/record-noise.mjs), from bench/noise or from files that
 * somebody else brings. A file names its columns; a round may also be one number, a latency.
 *
 *     { "columns": ["p50 ms", …], "cases": [{ "id": "…", "a": [[12.1, …], …], "b": [[12.3, …], …] }, …] }
 *
 * Of the columns only `p50 ms` must be there; `items/s`, `load ms`, `first inference ms` and any `yardstick NAME us` are used
 * where they are. Round k of `a` and of `b` are of the same time.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const OWN = fileURLToPath(new URL('../noise/', import.meta.url));

/** Rows of simulation from the recordings at `paths` (files or folders); default: those of this folder. Throws on what can't be used. */
export async function recordedRows(paths, { interleaved, stored }) {
  const files = (await Promise.all((paths.length > 0 ? paths : [OWN]).map(filesOf))).flat();
  const recordings = await Promise.all(files.map(readRecording));
  return [
    ['interleaved', interleaved],
    ['stored', 2 * stored],
  ].flatMap(([design, needed]) =>
    recordings.map(({ name, cases }) => {
      const traces = cases.filter(({ a }) => a.length >= needed);
      return { model: name, noise: noiseOf(traces), design, traces, tooShort: traces.length === 0 ? `no case has ${needed} rounds` : undefined };
    }),
  );
}

/** Standard deviation of the logarithms of a side's medians, over all sides. */
function noiseOf(traces) {
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const variances = traces.flatMap(({ a, b }) => [a, b]).map((side) => {
    const logs = side.map(({ p50 }) => Math.log(p50));
    return mean(logs.map((value) => (value - mean(logs)) ** 2));
  });
  return Math.sqrt(mean(variances));
}

async function filesOf(path) {
  if (!(await stat(path)).isDirectory()) return [path];
  return (await readdir(path)).filter((name) => name.endsWith('.json')).sort().map((name) => join(path, name));
}

function parsed(text, path) {
  try {
    return JSON.parse(text) ?? {};
  } catch (cause) {
    throw new Error(`${path} is not JSON: ${cause.message}`, { cause });
  }
}

async function readRecording(path) {
  const { columns = ['p50 ms'], cases } = parsed(await readFile(path, 'utf8'), path);
  const at = (name) => columns.indexOf(name);
  if (at('p50 ms') < 0 || !Array.isArray(cases)) throw new Error(`${path}: a recording has cases, and a column 'p50 ms'`);
  const yardsticks = columns.flatMap((name, column) => {
    const [, workload] = /^yardstick (.+) us$/.exec(name) ?? [];
    return workload === undefined ? [] : [{ workload, column }];
  });
  const roundOf = (given, where) => {
    const values = Array.isArray(given) ? given : [given];
    const p50 = values[at('p50 ms')];
    if (!(p50 > 0)) throw new Error(`${path}: ${where}: a latency is a number above 0, found ${p50}`);
    return {
      p50,
      throughput: values[at('items/s')],
      load: values[at('load ms')],
      first: values[at('first inference ms')],
      yardstick: yardsticks.flatMap(({ workload, column }) => (values[column] > 0 ? [{ workload, durationNs: values[column] * 1e3 }] : [])),
    };
  };
  const traces = cases.map(({ id, a, b }, index) => {
    const where = `case ${id ?? index}`;
    if (!Array.isArray(a) || a.length !== b?.length) throw new Error(`${path}: ${where}: sides a and b have as many rounds as each other`);
    return { id, a: a.map((round, i) => roundOf(round, `${where}, a, round ${i}`)), b: b.map((round, i) => roundOf(round, `${where}, b, round ${i}`)) };
  });
  return { name: basename(path, '.json'), cases: traces };
}
