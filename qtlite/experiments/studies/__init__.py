"""Studies: one module each; here, what chapters import."""

from qtlite.experiments.studies.effective_rank import effective_rank as effective_rank
from qtlite.experiments.studies.entanglement import amplitudes as amplitudes
from qtlite.experiments.studies.entanglement import bond_needed as bond_needed
from qtlite.experiments.studies.entanglement import entropy as entropy
from qtlite.experiments.studies.entanglement import schmidt_rank as schmidt_rank
from qtlite.experiments.studies.entanglement import schmidt_values as schmidt_values
from qtlite.experiments.studies.noise import mix_with_uniform as mix_with_uniform
from qtlite.experiments.studies.noise import noisy_probabilities as noisy_probabilities
from qtlite.experiments.studies.noise import survival as survival
from qtlite.experiments.studies.sampling import SampledQNN as SampledQNN
from qtlite.experiments.studies.sampling import infidelity as infidelity
from qtlite.experiments.studies.sampling import parameter_shift as parameter_shift
from qtlite.experiments.studies.sampling import sample_frequencies as sample_frequencies
from qtlite.experiments.studies.shots import paper_shots as paper_shots
from qtlite.experiments.studies.shots import shots_needed as shots_needed
from qtlite.experiments.studies.study import Row as Row
from qtlite.experiments.studies.study import run_study as run_study
from qtlite.experiments.studies.study import studies as studies
from qtlite.experiments.studies.toy import toy_accuracy as toy_accuracy
from qtlite.experiments.studies.toy import toy_model as toy_model
from qtlite.experiments.studies.toy import toy_task as toy_task
from qtlite.experiments.studies.trainability import derivative_variance as derivative_variance
from qtlite.experiments.studies.trainability import fit_line as fit_line
from qtlite.experiments.studies.trainability import random_state_variance as random_state_variance
