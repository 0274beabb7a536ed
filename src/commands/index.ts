/** Every command by its name; the surface of the command line. */
import BaselineList from './baseline/list.ts';
import BaselineRm from './baseline/rm.ts';
import BaselineSave from './baseline/save.ts';
import BaselineShow from './baseline/show.ts';
import Bisect from './bisect.ts';
import Build from './build.ts';
import Calibrate from './calibrate.ts';
import Compare from './compare.ts';
import DebugLayers from './debug/layers.ts';
import DebugPrecision from './debug/precision.ts';
import Doctor from './doctor.ts';
import Freeze from './freeze.ts';
import Gate from './gate.ts';
import History from './history.ts';
import Inspect from './inspect.ts';
import PluginNew from './plugin/new.ts';
import PluginTest from './plugin/test.ts';
import Plugins from './plugins.ts';
import Profile from './profile.ts';
import Report from './report.ts';
import Run from './run.ts';
import Serve from './serve.ts';
import Verify from './verify.ts';

export const COMMANDS = {
  'baseline:list': BaselineList,
  'baseline:rm': BaselineRm,
  'baseline:save': BaselineSave,
  'baseline:show': BaselineShow,
  bisect: Bisect,
  build: Build,
  calibrate: Calibrate,
  compare: Compare,
  'debug:layers': DebugLayers,
  'debug:precision': DebugPrecision,
  doctor: Doctor,
  freeze: Freeze,
  gate: Gate,
  history: History,
  inspect: Inspect,
  'plugin:new': PluginNew,
  'plugin:test': PluginTest,
  plugins: Plugins,
  profile: Profile,
  report: Report,
  run: Run,
  serve: Serve,
  verify: Verify,
};
