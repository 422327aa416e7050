// The first script, which is small: it asks the hub, and the app, which the page names beside it, comes meanwhile.
import 'uplot/dist/uPlot.min.css';
import './styles/base.css';
import './styles/frame.css';
import './styles/data.css';
import './styles/states.css';
import './styles/time.css';
import './styles/explore.css';
import './styles/fleet.css';
import './styles/operate.css';
// Last: it overrides the others on narrow screens.
import './styles/phone.css';
import { askEarly } from './lib/early';

askEarly(location.hash);
void import('./app');
