# The package on an official ROS 2 image. Not run here: there is no Docker where it was written.
#
#   docker build --build-arg ROS_DISTRO=jazzy -t rynn_brain .     # humble, jazzy or lyrical
#   docker build --build-arg ROS_DISTRO=jazzy --target test .     # builds, and runs the tests on ROS
#   docker run --rm --network host rynn_brain ros2 launch rynn_brain_ros brain.launch.py
ARG ROS_DISTRO=jazzy

FROM ros:${ROS_DISTRO}-ros-base AS built
SHELL ["/bin/bash", "-c"]
WORKDIR /workspace/src/rynn_brain_ros

# What rosdep knows is read from package.xml; control_msgs, moveit_msgs and nav2_msgs are messages only.
COPY package.xml ./
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip \
    && rosdep update --rosdistro "$ROS_DISTRO" \
    && rosdep install --from-paths . --ignore-src -y --rosdistro "$ROS_DISTRO" \
    && rm -rf /var/lib/apt/lists/*

# What rosdep does not know, into ROS's own Python. Humble's numpy and OpenCV are older than
# needed, and transforms3d (below tf_transformations) must not be older than numpy.
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_CACHE_DIR=1
RUN python3 -m pip install pyquaternion rosbags mcap zstandard lz4 httpx simplejpeg 'transforms3d>=0.4.2' \
    'numpy>=1.26,<2; python_version < "3.12"' 'opencv-python-headless>=4.7; python_version < "3.12"'

COPY . .
WORKDIR /workspace
RUN . "/opt/ros/$ROS_DISTRO/setup.bash" \
    && colcon build --packages-select rynn_brain_ros --event-handlers console_direct+

FROM built AS test
# Humble's own pytest is older than a plugin of httpx's; launch_testing's ends with pytest 9.
RUN apt-get update && apt-get install -y --no-install-recommends \
      libegl1 libegl-mesa0 libgl1-mesa-dri \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m pip install 'pytest>=7.4,<9' hypothesis 'mujoco>=3.3' 'av>=12'
ENV MUJOCO_GL=egl
RUN cd src/rynn_brain_ros && scripts/test_ros "/opt/ros/$ROS_DISTRO/setup.bash" -q
# Linked instead of copied, and through colcon's own way to run the tests.
RUN . "/opt/ros/$ROS_DISTRO/setup.bash" \
    && colcon build --symlink-install --packages-select rynn_brain_ros \
      --build-base linked/build --install-base linked/install \
    && . linked/install/local_setup.bash \
    && colcon test --packages-select rynn_brain_ros \
      --build-base linked/build --install-base linked/install \
    && colcon test-result --test-result-base linked/build --verbose

FROM built AS run
RUN printf '%s\n' '#!/bin/bash' 'set -e' '. "/opt/ros/$ROS_DISTRO/setup.bash"' \
      '. /workspace/install/local_setup.bash' 'exec "$@"' > /start && chmod +x /start
ENTRYPOINT ["/start"]
CMD ["ros2", "launch", "rynn_brain_ros", "brain.launch.py"]
