/** What is said to a command that there is not, with the nearest that there is. */
import type { Hook } from '@oclif/core';
import { EXIT, type ErrorReport } from '../errors.ts';
import { nearest } from '../nearest.ts';
import { formatError } from './base.ts';

const notFound: Hook.CommandNotFound = async function ({ id, argv = [], config }) {
  const known = config.commands.filter((command) => !command.hidden).map((command) => command.id.replaceAll(':', ' '));
  // oclif takes every word up to the first flag for part of the name.
  const words = id.split(':');
  const topic = known.some((name) => name.startsWith(`${words[0]} `));
  const asked = words.slice(0, topic ? 2 : 1).join(' ');
  const guess = nearest(asked, known);
  const report: ErrorReport = {
    code: 'USAGE',
    message: `there is no command '${asked}'${guess === undefined ? '' : `; did you mean '${guess}'?`}`,
    fix: `known: ${known.sort().join(', ')}`,
  };
  process.exitCode = EXIT.usage;
  if (argv.includes('--json') || id === '--json') this.log(JSON.stringify({ error: report }, undefined, 2));
  else for (const line of formatError(report, `${config.bin} --help`)) process.stderr.write(`${line}\n`);
};

export default notFound;
