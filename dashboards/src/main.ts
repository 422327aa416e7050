import { mount } from 'svelte';
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
import App from './App.svelte';

const target = document.getElementById('app');
if (!target) throw new Error('index.html has no #app');
mount(App, { target });
