/** The built-in reporters of the gate, in the order in which help lists them. */
import { gateGitlabReporter, gateSarifReporter } from './gate-findings.ts';
import { gateGithubReporter, gateJsonReporter, gateJunitReporter } from './gate-machine.ts';
import type { GateReporter } from './gate-reporter.ts';
import { gateMarkdownReporter, gateTableReporter } from './gate-text.ts';

export const GATE_REPORTERS: readonly GateReporter[] = [
  gateTableReporter,
  gateMarkdownReporter,
  gateJsonReporter,
  gateJunitReporter,
  gateGithubReporter,
  gateGitlabReporter,
  gateSarifReporter,
];
